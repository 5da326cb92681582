"""A backup as an operation: leased, announced, verified.

Order: (1) lease in the control log (one backup of a region at a time); (2) announced on the
region's recovery stream; (3) the backup; (4) verified; (5) announced; (6) noted on the control log
as the newest: the store alone could drop it unseen; (7) lease given back. A holder that died is
known by its process id on this machine, and by age elsewhere: a lease older than the compaction lag
holds no usable cut. Shell.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple

import psutil

from everlode.adapters.kafka_control import ControlLog
from everlode.adapters.kafka_follower import ControlFollower
from everlode.adapters.object_store import ObjectStore
from everlode.adapters.processor import preferred
from everlode.backup.asked import Source
from everlode.backup.create import create_backup
from everlode.backup.keys import DEFAULT_KEY, KeyRing
from everlode.backup.manifest import Manifest, sha256_of
from everlode.backup.verify import verify
from everlode.errors import EverlodeError, Locked, Unavailable
from everlode.events.control import BackupLeased, BackupMade, BackupReleased
from everlode.events.recovery import BackupEnded
from everlode.log.announcer import Announcer
from everlode.settings.endpoints import Endpoints
from everlode.telemetry.sink import Sink, silent
from everlode.topics import Topology

LEASE_S = 15.0


class Lease(NamedTuple):
    """One backup of a region at a time: whose turn it is."""

    operation: str
    newest: BackupMade | None
    """The region's newest backup before, as noted."""
    note: Callable[[BackupMade], object]
    """Append a newer one. Raises: Unavailable."""


def _holder() -> str:
    """host:pid:start of the process in ms."""
    started = round(psutil.Process().create_time() * 1000)
    return f"{socket.gethostname()}:{os.getpid()}:{started}:{time.time_ns() // 1_000_000}"


def holder_is_gone(holder: str, now_ms: int, longest_ms: int) -> bool:
    """Whether a lease's holder cannot be at work any more.

    On this machine its process is looked for; elsewhere only age tells. Unreadable: not gone.
    """
    try:
        host, pid, started, leased = holder.rsplit(":", 3)
        age = now_ms - int(leased)
        if age > longest_ms:
            return True
        if host != socket.gethostname():
            return False
        return round(psutil.Process(int(pid)).create_time() * 1000) != int(started)
    except psutil.NoSuchProcess:
        return True
    except (ValueError, psutil.Error):
        return False


@contextmanager
def leased(control: str, region: str, longest_ms: int) -> Iterator[Lease]:
    """Hold the region's backup lease.

    Raises: Locked: another backup of the region runs. Unavailable: no majority of the control log.
    """
    operation = f"backup-{region}-{uuid.uuid4()}"
    log = ControlLog(control)
    follower = ControlFollower(control).start()
    try:
        held = follower.state.backups.get(region)
        now = time.time_ns() // 1_000_000
        if held is not None and holder_is_gone(held.holder, now, longest_ms):
            log.append(
                region, BackupReleased(region=region, operation_id=held.operation_id),
                node_id=operation,
            )  # fmt: skip
        mine = BackupLeased(region=region, operation_id=operation, holder=_holder())
        at = log.append(region, mine, node_id=operation)
        state = follower.wait_for(lambda s: s.position >= at, LEASE_S)
        winner = state.backups.get(region)
        if winner is None or winner.operation_id != operation:
            by = winner.holder if winner else "somebody else"
            raise Locked(
                f"a backup of {region} runs already, held by {by}",
                hint="wait for it; a holder that died is replaced by itself",
            )
        try:
            yield Lease(
                operation, state.newest.get(region),
                lambda made: log.append(region, made, node_id=operation),
            )  # fmt: skip
        finally:
            log.append(
                region, BackupReleased(region=region, operation_id=operation), node_id=operation
            )
    finally:
        follower.close()
        log.close()


def back_up(
    region: str,
    endpoints: Endpoints,
    topology: Topology,
    store: ObjectStore,
    keys: KeyRing,
    *,
    key_id: str = DEFAULT_KEY,
    check: bool = True,
    report: Sink = silent,
) -> Manifest:
    """Back a region up, from the lease to the last announcement.

    Raises: ConfigError: no such region, no control cluster. WrongKey: no such key. Locked.
    Precondition; IntegrityError; Unavailable.
    """
    place, control = endpoints.region(region), endpoints.control()
    keys.probe(key_id)  # before anything is begun
    source = Source(region, place.kafka_bootstrap, place.postgres_conninfo(), topology)
    # 1. the lease, given back as (7)
    with (
        preferred(),
        leased(control, region, topology.min_compaction_lag_ms) as lease,
        closing(Announcer(place, "backup", lease.operation, report)) as announcer,
    ):
        source = source._replace(noted=lease.newest)
        # 2. announced
        announcer.started(region, region)
        try:
            # 3. the backup
            manifest = create_backup(source, store, keys, key_id=key_id, report=announcer.report)
            # 4. verified
            if check:
                # what was sealed has been decoded; that it is in the store its hash shows
                verify(store, keys, region, manifest.backup_id, "hash", announcer.report)
        except EverlodeError:
            announcer.ended(_failed(lease.operation))
            raise
        # 5. announced
        announcer.ended(_made(manifest, check))
        # 6. noted
        _note(lease, manifest)
        return manifest


def _note(lease: Lease, manifest: Manifest) -> None:
    try:
        lease.note(
            BackupMade(
                region=manifest.region, backup_id=manifest.backup_id,
                manifest_sha256=sha256_of(manifest), created_at_ms=manifest.created_at_ms,
            )
        )  # fmt: skip
    except Unavailable as error:
        raise Unavailable(
            f"backup {manifest.backup_id} is whole in the store, but not noted: {error.message}",
            code="not_noted",
            hint="it can be recovered from; make another one once the control log answers",
        ) from None


def _failed(operation: str) -> BackupEnded:
    return BackupEnded(
        backup_id=operation, backup_type="full-system", bytes=0, records=0, cut_stamp=0,
        manifest_sha256="", verified=False, success=False,
    )  # fmt: skip


def _made(manifest: Manifest, verified: bool) -> BackupEnded:
    return BackupEnded(
        backup_id=manifest.backup_id, backup_type="full-system", bytes=manifest.total_backup_size,
        records=sum(o.records for o in manifest.objects), cut_stamp=manifest.cut_stamp,
        manifest_sha256=sha256_of(manifest), verified=verified, success=True,
    )  # fmt: skip
