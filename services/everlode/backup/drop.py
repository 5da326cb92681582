"""Drops backups, from the oldest on: the chain may begin anywhere, and must not have a gap.

Order (must): before anything is removed, the newest backup that stays is found whole in the store,
object by object, and noted; then backup by backup, oldest first, its manifest before its objects:
what has no manifest is no backup. Killed anywhere, the same command goes on. Shell.
"""

from __future__ import annotations

from typing import NamedTuple

from everlode.backup.chain import require_newest
from everlode.backup.chosen import Shelf
from everlode.backup.manifest import MANIFEST
from everlode.backup.stored import list_backups
from everlode.backup.verify import from_end, none_of, verify
from everlode.errors import NotFound, Precondition
from everlode.events.control import BackupMade
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink


class Dropped(NamedTuple):
    """What was dropped, oldest first, and what is the newest that stays; empty: none does."""

    backups: tuple[str, ...]
    stays: str


def drop_backups(
    shelf: Shelf, upto: str, noted: BackupMade | None, *, even_newest: bool, report: Sink
) -> Dropped:
    """Drop a backup and all that are older, unfinished ones too.

    `noted`: the newest that was made, by the control log. `even_newest`: the operator's word that
    the newest whole one may go, and with it all. Raises: NotFound: there is no such backup.
    Precondition: the newest whole one would go. IntegrityError: the newest that stays is not the
    newest that was made, or not whole: nothing is removed. Unavailable.
    """
    found = list_backups(shelf.store, shelf.region)
    if upto not in (name for name, _ in found):
        raise NotFound(f"{shelf.region} has no backup {upto}", hint="everlode backup list --all")
    going = [name for name, _ in found if name <= upto]
    stays = "" if even_newest else _stays(shelf, upto, noted, report)
    for name in going:
        prefix = f"{shelf.region}/{name}/"
        shelf.store.delete(prefix + MANIFEST)
        for item in shelf.store.list(prefix):
            shelf.store.delete(item.key)
        report(Note("backup", f"{name} is dropped"))
    return Dropped(tuple(going), stays)


def _stays(shelf: Shelf, upto: str, noted: BackupMade | None, report: Sink) -> str:
    """The newest backup, which stays, and is whole in the store."""
    latest, passed = from_end(*shelf, report=report)
    if latest is None:
        raise none_of(shelf.region, passed)
    if latest.backup_id <= upto:
        raise Precondition(
            f"backup {latest.backup_id} is the newest whole one of {shelf.region}",
            code="newest",
            hint="make another one first; --even-newest drops it too, and then there is none",
        )
    require_newest(latest, noted, passed)
    verify(*shelf, latest.backup_id, "hash", report)
    return latest.backup_id
