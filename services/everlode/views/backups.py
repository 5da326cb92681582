"""The backups of a region as operators are shown them. Shell: reads the store."""

from __future__ import annotations

from typing import NamedTuple

from everlode.adapters.s3 import S3Store
from everlode.backup.keys import KeyRing
from everlode.backup.manifest import Manifest
from everlode.backup.stored import contents
from everlode.backup.verify import signed_manifest
from everlode.errors import IntegrityError


class Finished(NamedTuple):
    """A backup whose signature is right."""

    backup_id: str
    created_at_ms: int
    cut_stamp: int
    bytes: int
    records: int
    write_once: bool
    parent_id: str | None
    encryption_key_id: str
    behind_logs_ms: int | None = None
    """How old its cut was when it was made; None: its build did not note it."""
    behind_clock_ms: int | None = None
    lost: int = 0
    """States that a state topic or PostgreSQL had lost then; the backup has them."""
    finished: bool = True


class Unusable(NamedTuple):
    """A backup whose manifest cannot be trusted, or not be read with these keys."""

    backup_id: str
    error: str
    finished: bool = True


class Unfinished(NamedTuple):
    """Objects without a manifest: a backup that was cut short, or that is under way."""

    backup_id: str
    finished: bool = False


class Foreign(NamedTuple):
    """An object below the region's name that is of no backup of ours; it is passed over."""

    key: str


Listed = Finished | Unusable | Unfinished | Foreign


def listed(store: S3Store, keys: KeyRing, region: str, *, unfinished: bool = False) -> list[Listed]:
    """The backups of a region, oldest first; with `unfinished` those without a manifest,
    and objects that are not ours, too.

    Raises: Unavailable.
    """
    rows: list[Listed] = []
    found = contents(store, region)
    for backup_id, finished in found.backups:
        if finished:
            rows.append(_read(store, keys, region, backup_id))
        elif unfinished:
            rows.append(Unfinished(backup_id))
    if unfinished:
        rows += [Foreign(key) for key in found.foreign]
    return rows


def _read(store: S3Store, keys: KeyRing, region: str, backup_id: str) -> Listed:
    try:
        found = signed_manifest(store, keys, region, backup_id)
    except IntegrityError as error:
        return Unusable(backup_id, error.message)
    age, compared = found.age, found.compared
    return Finished(
        backup_id, found.created_at_ms, found.cut_stamp, found.total_backup_size, records_of(found),
        found.write_once, found.parent_id, found.encryption_key_id,
        age.behind_logs_ms if age else None, age.behind_clock_ms if age else None,
        compared.from_rows + compared.without_row if compared else 0,
    )  # fmt: skip


def records_of(manifest: Manifest) -> int:
    """States in all objects of a backup."""
    return sum(stored.records for stored in manifest.objects)
