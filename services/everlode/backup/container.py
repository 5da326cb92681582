"""Avro container files with zstd, encrypted: states of one component and partition number.

Written and read as streams: memory is one block and one segment, whatever the size. Files on the
way have no names: however a process ends, no state is left on its disk in plain. Shell.
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
def room() -> Iterator[None]:
    """Names the temporary folder when there is no room in it, or it cannot be written.

    Raises: Unavailable.
    """
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"the staging folder in {tempfile.gettempdir()} cannot be used: {error.strerror}",
            code="no_room",
            hint="make room, or set TMPDIR to another folder",
        ) from None


def _hash(file: BinaryIO) -> str:
    """Of the whole file; leaves it at its start."""
    file.seek(0)
    found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(0)
    return found


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def is_whole(path: Path, sha256: str) -> bool:
    """Whether there is a file with this content."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        return _hash(file) == sha256


def seal(
    records: Iterable[dict[str, Any]], schema: Any, target: BinaryIO, key: bytes, name: str
) -> Sums:
    """Write records to the empty file `target`, encrypted.

    `schema` is parsed, or a contract's name.
    """
    parsed = schemas.parsed(schema) if isinstance(schema, str) else schema
    count = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal count
        for record in records:
            count += 1
            yield record

    with tempfile.TemporaryFile() as plain:
        fastavro.writer(plain, parsed, counted(), codec="zstandard", sync_interval=64_000)
        return seal_file(plain, target, key, name)._replace(records=count)


def seal_file(plain: BinaryIO, target: BinaryIO, key: bytes, name: str) -> Sums:
    """Encrypt the file `plain` to the empty file `target`. Counts as one record."""
    plain.seek(0)
    encrypt(plain, target, key, name.encode())
    return Sums(_hash(plain), _hash(target), _size(plain), _size(target), 1)


def open_sealed(source: BinaryIO, target: BinaryIO, key: bytes, name: str, sums: Sums) -> None:
    """Decrypt `source` to the empty file `target`, left at its start.

    The hash is checked before, and that of the plain content after. Raises: IntegrityError: one
    differs; WrongKey. Nothing is left in `target` then.
    """
    if _size(source) != sums.cipher_bytes or _hash(source) != sums.cipher_sha256:
        raise IntegrityError(
            f"{name}: its bytes differ from the manifest",
            code="object_changed",
            hint="use another backup: everlode backup list",
        )
    try:
        decrypt(source, target, key, name.encode(), name)
        if _hash(target) != sums.plain_sha256:
            raise IntegrityError(
                f"{name}: the content differs from the manifest",
                hint="use another backup: everlode backup list",
            )
    except BaseException:
        target.seek(0)
        target.truncate()
        raise


def read(file: BinaryIO, name: str, contract: str = "") -> Iterator[dict[str, Any]]:
    """Records of an opened container, as it has them.

    With `contract`, a name of ours, as today's schema of it has them: what an older build did not
    write yet is filled in by default. Raises: IntegrityError: it does not decode.
    """
    try:
        found = fastavro.reader(file)
        if contract and schemas.fingerprint_of(_schema_of(found)) != schemas.fingerprint(contract):
            file.seek(0)
            found = fastavro.reader(file, reader_schema=schemas.parsed(contract))
        for record in found:
            if not isinstance(record, dict):
                raise IntegrityError(f"{name}: a record is no record")
            yield record
    except IntegrityError:
        raise
    except Exception as error:  # noqa: BLE001 - what unpacks, and what reads a schema, has its own
        raise IntegrityError(f"{name}: does not decode: {type(error).__name__}") from None


def _schema_of(found: Any) -> dict[str, Any]:
    """What the container's writer wrote as its schema. Raises: ValueError."""
    schema = found.writer_schema
    if not isinstance(schema, dict):
        raise ValueError("no record")
    return schema


def check_records(file: BinaryIO, name: str, records: int) -> None:
    """Decode every record of an opened container.

    Raises: IntegrityError: it does not decode, or has another number of records.
    """
    found = sum(1 for _ in read(file, name))
    if found != records:
        raise IntegrityError(
            f"{name}: {found} records, the manifest says {records}",
            hint="use another backup: everlode backup list",
        )
