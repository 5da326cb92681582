"""Which backup is meant, and what stands around it. Shell: reads the store and the control log."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple

from everlode.adapters.kafka_follower import ControlFollower
from everlode.adapters.object_store import ObjectStore
from everlode.backup.chain import breaks, require_newest
from everlode.backup.keys import KeyRing
from everlode.backup.manifest import LIST, Manifest
from everlode.backup.stored import list_backups
from everlode.backup.verify import AT_ONCE, LATEST, OLDEST, Passed, from_end, none_of, of_id
from everlode.errors import IntegrityError, Unavailable
from everlode.events.control import BackupMade
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink

CONTROL_S = 15.0
WALKED = 100
"""So many backups back a recovery walks the chain: it has to be quick."""


class Shelf(NamedTuple):
    """Where the backups of a region are, and what opens them."""

    store: ObjectStore
    keys: KeyRing
    region: str


class Chosen(NamedTuple):
    """The backup that is meant, and those that stood before it and are not signed by us."""

    manifest: Manifest
    passed: Passed

    @property
    def passed_over(self) -> list[str]:
        """Each by its object, and why."""
        return [error.message for error in self.passed.values()]


Read = Manifest | IntegrityError
"""A manifest that is signed by us, or why there is none."""


def newest_noted(control: str, region: str) -> BackupMade | None:
    """The newest backup of a region that the control log notes. Raises: Unavailable."""
    with closing(ControlFollower(control)) as follower:
        return follower.start(CONTROL_S).state.newest.get(region)


def chosen(shelf: Shelf, backup_id: str, control: str, report: Sink) -> Chosen:
    """A backup: by its id, which is the operator's word for it, or that at an end.

    `latest` is compared with what is noted on the control log, at its bootstrap address.

    Raises: NotFound. IntegrityError: it is not signed by us, or the latest is not the newest that
    was made. Unavailable: no store, or for `latest` no control log to compare it with.
    """
    if backup_id not in (LATEST, OLDEST):
        return Chosen(of_id(*shelf, backup_id), {})
    if backup_id == OLDEST:
        return _end(shelf.region, *from_end(*shelf, OLDEST, report))
    with ThreadPoolExecutor(1, "noted") as beside:
        asking = beside.submit(newest_noted, control, shelf.region)
        manifest, passed = from_end(*shelf, LATEST, report)
        try:
            noted = asking.result()
        except Unavailable as error:
            raise Unavailable(
                "whether the latest backup is the newest that was made is not known:"
                f" {error.message}",
                code=error.code,
                hint=f"start the control log, or name a backup by its id: {LIST}",
            ) from None
    require_newest(manifest, noted, passed)
    found = _end(shelf.region, manifest, passed)
    if noted is None:
        name = found.manifest.backup_id
        report(Note("backup", f"no backup of {shelf.region} is noted on the control log: whether"
                              f" {name} is the newest is not known"))  # fmt: skip
    return found


def _end(region: str, manifest: Manifest | None, passed: Passed) -> Chosen:
    if manifest is None:
        raise none_of(region, passed)
    return Chosen(manifest, passed)


def finished(shelf: Shelf, most: int = 0) -> dict[str, Read]:
    """The backups of a region with a manifest, oldest first; the newest `most`, or all.

    Raises: Unavailable.
    """
    names = [name for name, done in list_backups(shelf.store, shelf.region) if done][-most:]

    def read(name: str) -> Read:
        try:
            return of_id(*shelf, name)
        except IntegrityError as error:
            return error

    with ThreadPoolExecutor(AT_ONCE, "manifests") as threads:
        return dict(zip(names, threads.map(read, names), strict=True))


def broken(backups: dict[str, Read]) -> dict[str, str]:
    """Where their chain is broken: see `chain.breaks`."""
    return breaks({name: m if isinstance(m, Manifest) else None for name, m in backups.items()})


def walk(shelf: Shelf, report: Sink, most: int = 0) -> dict[str, str]:
    """Walk the chain, as far back as `finished`: `broken`, each break reported.

    Raises: Unavailable.
    """
    found = broken(finished(shelf, most))
    for name, reason in found.items():
        report(Note("chain", f"backup {name}: {reason}"))
    return found
