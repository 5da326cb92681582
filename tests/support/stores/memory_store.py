"""An object store in memory, for tests; with or without conditional puts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from everlode.adapters.object_store import Capabilities, Stored
from everlode.errors import NotFound, Precondition


class MemoryStore:
    """Behaves as the contract says."""

    def __init__(self, *, conditional: bool = True) -> None:
        self.conditional = conditional
        self.objects: dict[str, bytes] = {}

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> None:
        if only_new and self.conditional and self.objects.get(key, data) != data:
            raise Precondition(f"{key} exists and is never overwritten")
        self.objects[key] = data

    def put_file(self, key: str, file: BinaryIO) -> None:
        file.seek(0)
        self.objects[key] = file.read()

    def get(self, key: str) -> bytes:
        if key not in self.objects:
            raise NotFound(f"{key} is not in the store")
        return self.objects[key]

    def get_file(self, key: str, file: BinaryIO) -> None:
        file.write(self.get(key))

    def list(self, prefix: str) -> Iterator[Stored]:
        yield from (
            Stored(k, len(v)) for k, v in sorted(self.objects.items()) if k[: len(prefix)] == prefix
        )

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def capabilities(self) -> Capabilities:
        return Capabilities(self.conditional)
