"""Avro container files with zstd, encrypted: states of one component and partition number.

Written and read as streams: memory is one block and one segment, whatever the size.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import fastavro

from everlode.avro import schemas
from everlode.backup.encryption import decrypt, encrypt
from everlode.errors import IntegrityError, Unavailable

DELETED = "deleted"
"""Component name of the objects that list deleted aggregates."""
DELETED_SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "everlode.backup.Deleted",
        "doc": "An aggregate that was deleted, so that a restore never brings it back.",
        "fields": [
            {"name": "component", "type": "string"},
            {"name": "key", "type": "string"},
            {"name": "version", "type": "long", "doc": "Its last version, or a lower bound."},
            {"name": "event_id", "type": "string", "doc": "Empty when unknown."},
        ],
    }
)
PARKED = "parked"
"""Component name of the objects that list facts which wait in the projector."""
PARKED_SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "everlode.backup.Parked",
        "doc": "A fact up to the cut that waits, for one that is missing or for the control log.",
        "fields": [
            {"name": "topic", "type": "string"},
            {"name": "offset", "type": "long", "doc": "In the region's cluster."},
            {"name": "value", "type": "bytes", "doc": "The fact as it stands on its topic."},
        ],
    }
)


class Sums(NamedTuple):
    """Hashes and sizes of an object, before and after encryption."""

    plain_sha256: str
    cipher_sha256: str
    plain_bytes: int
    cipher_bytes: int
    records: int


@contextmanager
def staging(prefix: str) -> Iterator[Path]:
    """A folder of our own (mode 0700), removed at the end.

    Raises: Unavailable: no room in it, or it cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=prefix) as folder:
            yield Path(folder)
    except OSError as error:
        raise Unavailable(
            f"the staging folder in {tempfile.gettempdir()} cannot be used: {error.strerror}",
            code="no_room",
            hint="make room, or set TMPDIR to another folder",
        ) from None


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(path: Path, sha256: str) -> bool:
    """Whether there is a file with this content."""
    return path.exists() and _hash(path) == sha256


def seal(
    records: Iterable[dict[str, Any]], schema: Any, target: Path, key: bytes, name: str
) -> Sums:
    """Write records to the encrypted file `target`; `schema` is parsed, or a contract's name."""
    parsed = schemas.parsed(schema) if isinstance(schema, str) else schema
    count = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal count
        for record in records:
            count += 1
            yield record

    with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".avro") as plain:
        fastavro.writer(plain, parsed, counted(), codec="zstandard", sync_interval=64_000)
        plain.flush()
        return seal_file(Path(plain.name), target, key, name)._replace(records=count)


def seal_file(plain: Path, target: Path, key: bytes, name: str) -> Sums:
    """Encrypt the file `plain` to `target`; on disk when this returns. Counts as one record."""
    with plain.open("rb") as source, target.open("wb") as sealed:
        encrypt(source, sealed, key, name.encode())
        sealed.flush()
        os.fsync(sealed.fileno())
    return Sums(_hash(plain), _hash(target), plain.stat().st_size, target.stat().st_size, 1)


def open_sealed(source: Path, target: Path, key: bytes, name: str, sums: Sums) -> None:
    """Decrypt `source` to `target` after its hash was checked, and check the plain hash.

    Raises: IntegrityError: a hash differs; WrongKey. Nothing is left in `target` then.
    """
    if source.stat().st_size != sums.cipher_bytes or _hash(source) != sums.cipher_sha256:
        raise IntegrityError(
            f"{name}: its bytes differ from the manifest",
            code="object_changed",
            hint="use another backup: everlode backup list",
        )
    try:
        with source.open("rb") as sealed, target.open("wb") as plain:
            decrypt(sealed, plain, key, name.encode(), name)
        if _hash(target) != sums.plain_sha256:
            raise IntegrityError(
                f"{name}: the content differs from the manifest",
                hint="use another backup: everlode backup list",
            )
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def read(file: BinaryIO, name: str) -> Iterator[dict[str, Any]]:
    """Records of an opened container. Raises: IntegrityError: it does not decode."""
    try:
        for record in fastavro.reader(file):
            if not isinstance(record, dict):
                raise IntegrityError(f"{name}: a record is no record")
            yield record
    except (ValueError, EOFError, KeyError, IndexError) as error:
        raise IntegrityError(f"{name}: does not decode: {type(error).__name__}") from None
