"""The port to an object store: what backups need of one, and what a store really does. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Protocol


class Stored(NamedTuple):
    """An object as the store lists it."""

    key: str
    size: int


class Capabilities(NamedTuple):
    """What the store really does, found by doing it."""

    conditional_put: bool
    """A second put of a key with `only_new` is refused, and the first content stays."""
    versioning: bool = False
    """The bucket keeps older versions."""
    object_lock: bool = False
    """The bucket can hold objects against deletion."""


class ObjectStore(Protocol):
    """What backups need of a store. Keys are never overwritten by us."""

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> None:
        """Store bytes. `only_new`: refuse when the key exists, where the store can.

        Idempotent: the same bytes again are a success. Raises: Precondition: it exists with other
        bytes. Unavailable.
        """

    def put_file(self, key: str, file: BinaryIO) -> None:
        """Store a file, from its start, under a new key. Raises: Unavailable; ConfigError."""

    def get(self, key: str) -> bytes:
        """Read an object whole.

        Raises: NotFound; Unavailable. IntegrityError: it became another one meanwhile.
        """

    def get_file(self, key: str, file: BinaryIO) -> None:
        """Read an object into an empty file; after an error there may be a part of it.

        Raises: NotFound; Unavailable; OSError: no room. IntegrityError: as `get`.
        """

    def list(self, prefix: str) -> Iterator[Stored]:
        """Objects under a prefix, sorted by key. Raises: Unavailable."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing when it is not there. Raises: Unavailable."""

    def capabilities(self) -> Capabilities:
        """Probe the store by doing it. Raises: Unavailable."""
