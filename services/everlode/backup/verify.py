"""Verifies a backup: signed → exists → hash → decode. Shell: reads the store."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

from everlode.adapters.object_store import ObjectStore
from everlode.backup.container import Sums, check_records, open_sealed, room
from everlode.backup.keys import KeyRing
from everlode.backup.manifest import LIST, Manifest, ObjectEntry, checksum
from everlode.backup.stored import list_backups, load_manifest
from everlode.errors import ConfigError, IntegrityError, NotFound, WrongKey
from everlode.telemetry.entries import Note, StepEnded
from everlode.telemetry.pace import Pace
from everlode.telemetry.sink import Sink, silent

LATEST, OLDEST = "latest", "oldest"
ANOTHER = f"use another backup: {LIST}"
LEVELS = ("exists", "hash", "decode")
AT_ONCE = 8
"""Objects that are read at the same time."""
Passed = Mapping[str, IntegrityError]
"""Backup id → why it was passed over, in the order in which they were looked at."""
T = TypeVar("T")


class Verified(NamedTuple):
    """What was verified; `records` are those that were decoded."""

    manifest: Manifest
    level: str
    objects: int
    records: int


def sums_of(entry: ObjectEntry) -> Sums:
    """An entry's hashes and sizes."""
    return Sums(
        entry.plain_sha256, entry.cipher_sha256, entry.plain_bytes, entry.cipher_bytes,
        entry.records,
    )  # fmt: skip


def signed_manifest(
    store: ObjectStore, keys: KeyRing, region: str, backup_id: str, report: Sink = silent
) -> Manifest:
    """A manifest whose signature and checksum are right; `latest` and `oldest` are ids too.

    Raises: NotFound: there is none, or it is unfinished. IntegrityError: of an id, why it is not
    usable. WrongKey: there is no key to check signatures with. Unavailable.
    """
    if backup_id not in (LATEST, OLDEST):
        return of_id(store, keys, region, backup_id)
    manifest, passed = from_end(store, keys, region, backup_id, report)
    if manifest is None:
        raise none_of(region, passed)
    return manifest


def from_end(
    store: ObjectStore, keys: KeyRing, region: str, end: str = LATEST, report: Sink = silent
) -> tuple[Manifest | None, Passed]:
    """The first manifest from an end that is signed by us, and those that stand before it.

    Whoever can write to the store can put any name before or behind ours: only what we have signed
    counts, the rest is reported and passed over. Whether ours is among the rest, damaged, is for
    the control log to say: see chain.py. Raises: WrongKey; Unavailable.
    """
    finished = [b for b, done in list_backups(store, region) if done]
    passed = dict[str, IntegrityError]()
    for found in finished if end == OLDEST else reversed(finished):
        try:
            return of_id(store, keys, region, found), passed
        except WrongKey:
            raise
        except NotFound:
            continue  # dropped a moment ago
        except IntegrityError as error:
            report(Note("backup", f"{found} is passed over: {error.message}"))
            passed[found] = error
    return None, passed


def none_of(region: str, passed: Passed) -> NotFound:
    """The error of who wants an end, and there is none."""
    for error in passed.values():
        why = f"{len(passed)} passed over, the first: {error.message}"
        return NotFound(f"region {region} has no backup that we signed: {why}", hint=error.hint)
    return NotFound(f"region {region} has no backup", hint="everlode backup create")


def of_id(store: ObjectStore, keys: KeyRing, region: str, backup_id: str) -> Manifest:
    """The manifest of that name, whatever it is. Raises: as `signed_manifest`."""
    manifest, body, signature = load_manifest(store, region, backup_id)
    name = f"{region}/{manifest.backup_id}/manifest.json"
    try:
        keys.check(body, signature)
    except WrongKey:
        raise
    except IntegrityError as error:
        hint = f"{error.hint}; {ANOTHER}"
        raise IntegrityError(f"{name}: {error.message}", code=error.code, hint=hint) from None
    if checksum(manifest.objects) != manifest.integrity_checksum:
        raise IntegrityError(f"{name}: the checksum of its objects differs", hint=ANOTHER)
    return manifest


def fetch(store: ObjectStore, keys: KeyRing, entry: ObjectEntry, folder: Path) -> Path:
    """One object, decrypted, with both hashes checked; the path of its plain file.

    Nothing is left of it after an error. Raises: IntegrityError: missing or changed; WrongKey;
    Unavailable; OSError: no room.
    """
    path = folder / f"{entry.component}-{entry.partition}.plain"
    try:
        with tempfile.TemporaryFile(dir=folder) as sealed, path.open("w+b") as plain:
            _get(store, entry, sealed)
            key = keys.unwrap(entry.key_id, entry.wrapped_key, entry.key)
            open_sealed(sealed, plain, key, entry.key, sums_of(entry))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _get(store: ObjectStore, entry: ObjectEntry, file: BinaryIO) -> None:
    try:
        store.get_file(entry.key, file)
    except NotFound:
        raise IntegrityError(
            f"{entry.key}: the object is missing",
            code="object_missing",
            hint=ANOTHER,
        ) from None


def verify(
    store: ObjectStore,
    keys: KeyRing,
    region: str,
    backup_id: str,
    level: str = "decode",
    report: Sink = silent,
) -> Verified:
    """Verify a backup down to a level. Raises: IntegrityError and its leaves; NotFound."""
    if level not in LEVELS:
        raise ConfigError(f"level {level!r}", hint=f"one of: {', '.join(LEVELS)}")
    manifest = signed_manifest(store, keys, region, backup_id, report)
    sizes = {o.key: o.size for o in store.list(f"{region}/{manifest.backup_id}/")}
    records, pace = 0, Pace(report, "verify", len(manifest.objects), "objects")

    def check(entry: ObjectEntry) -> int:
        _check_size(sizes, entry)
        if level == "exists":
            return 0
        return _hash_only(store, entry) if level == "hash" else _decode(store, keys, entry)

    with room():
        for entry, found in at_once(manifest.objects, check):
            records += found
            report(StepEnded("verify", entry.key, level))
            pace.more()
    return Verified(manifest, level, len(manifest.objects), records)


def at_once(
    entries: Sequence[ObjectEntry], work: Callable[[ObjectEntry], T]
) -> Iterator[tuple[ObjectEntry, T]]:
    """Each entry with what `work` gives for it, in order; a few are worked on at the same time.

    The store's answers are waited for, each in its thread. Raises: what `work` does; the rest is
    not begun then.
    """
    threads = ThreadPoolExecutor(AT_ONCE, "objects")
    try:
        yield from zip(entries, threads.map(work, entries), strict=True)
    finally:
        threads.shutdown(cancel_futures=True)


def _check_size(sizes: Mapping[str, int], entry: ObjectEntry) -> None:
    if sizes.get(entry.key) != entry.cipher_bytes:
        what = "is missing" if entry.key not in sizes else "has another size"
        code = "object_missing" if entry.key not in sizes else "object_changed"
        raise IntegrityError(f"{entry.key}: the object {what}", code=code, hint=ANOTHER)


class _Hashing(io.RawIOBase):
    """A file that keeps the hash of what is written to it, and nothing else."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Add it to the hash."""
        self.sha256.update(data)
        return len(data)


def _hash_only(store: ObjectStore, entry: ObjectEntry) -> int:
    file = _Hashing()
    _get(store, entry, cast("BinaryIO", file))
    if file.sha256.hexdigest() != entry.cipher_sha256:
        raise IntegrityError(
            f"{entry.key}: its bytes differ from the manifest", code="object_changed", hint=ANOTHER
        )
    return 0


def _decode(store: ObjectStore, keys: KeyRing, entry: ObjectEntry) -> int:
    with tempfile.TemporaryFile() as sealed, tempfile.TemporaryFile() as plain:
        _get(store, entry, sealed)
        key = keys.unwrap(entry.key_id, entry.wrapped_key, entry.key)
        open_sealed(sealed, plain, key, entry.key, sums_of(entry))
        if entry.component != "config":
            check_records(plain, entry.key, entry.records)
    return entry.records
