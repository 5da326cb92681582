"""The backups of a region as operators are shown them. Shell: reads the store."""

from __future__ import annotations

from typing import NamedTuple

from everlode.backup.chain import behind
from everlode.backup.chosen import Read, Shelf, broken, finished
from everlode.backup.manifest import Manifest
from everlode.backup.stored import contents
from everlode.errors import IntegrityError
from everlode.events.control import BackupMade


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
    chain: str
    """Why its parent is not what it should be; empty: it is."""
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


class Shown(NamedTuple):
    """The backups of a region, and what the control log knows of them."""

    rows: list[Listed]
    behind: str
    """How they fall short of the newest that was made; empty: they do not, as far as is known."""

    @property
    def whole(self) -> bool:
        """Whether none that was made is missing, and each has the parent that it was made after."""
        return not self.behind and not any(isinstance(r, Finished) and r.chain for r in self.rows)


def shown(shelf: Shelf, noted: BackupMade | None, *, unfinished: bool = False) -> Shown:
    """The backups of a region, oldest first; with `unfinished` those without a manifest,
    and objects that are not ours, too.

    Raises: Unavailable.
    """
    read = finished(shelf)
    found, broken_at = contents(shelf.store, shelf.region), broken(read)
    rows: list[Listed] = []
    for backup_id, _ in found.backups:
        if backup_id in read:
            rows.append(_row(backup_id, read[backup_id], broken_at.get(backup_id, "")))
        elif unfinished:
            rows.append(Unfinished(backup_id))
    if unfinished:
        rows += [Foreign(key) for key in found.foreign]
    signed = [m for m in read.values() if isinstance(m, Manifest)]
    others = {name: e for name, e in read.items() if isinstance(e, IntegrityError)}
    return Shown(rows, behind(signed[-1] if signed else None, noted, others))


def _row(backup_id: str, found: Read, chain: str) -> Listed:
    if not isinstance(found, Manifest):
        return Unusable(backup_id, found.message)
    age, compared = found.age, found.compared
    return Finished(
        backup_id, found.created_at_ms, found.cut_stamp, found.total_backup_size, records_of(found),
        found.write_once, found.parent_id, found.encryption_key_id, chain,
        age.behind_logs_ms if age else None, age.behind_clock_ms if age else None,
        compared.from_rows + compared.without_row if compared else 0,
    )  # fmt: skip


def records_of(manifest: Manifest) -> int:
    """States in all objects of a backup."""
    return sum(stored.records for stored in manifest.objects)
