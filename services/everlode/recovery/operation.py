"""A recovery as an operation: one at a time, run or resumed, announced, reported. Shell."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from everlode.adapters.object_store import ObjectStore
from everlode.adapters.postgres_read import current_generation
from everlode.adapters.processor import preferred
from everlode.backup.keys import KeyRing
from everlode.errors import EverlodeError, Locked
from everlode.events.recovery import ComponentRecoveryEnded, RecoveryEnded
from everlode.log.announcer import Announcer
from everlode.recovery.planner import ComponentResult, RecoveryResult
from everlode.recovery.request import RecoveryRequest, Target
from everlode.recovery.run import Recovery
from everlode.recovery.services import Ask
from everlode.settings.endpoints import Endpoints, RegionEndpoints
from everlode.telemetry.sink import Sink, silent
from everlode.topics import Topology

RUN = "run"
"""Folder of the journal of a recovery that is not over, within its work folder."""
NAMED = 1000
"""Lost events that are told by their ids; the report has all."""


@contextmanager
def alone(work: Path, region: str) -> Iterator[None]:
    """One recovery a work folder. Raises: Locked."""
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (work / "lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Locked(
                f"a recovery of {region} runs already in {work}", hint="wait for it to end"
            ) from None
        yield


def report_dict(result: RecoveryResult) -> dict[str, Any]:
    """The report as plain values."""
    return {
        **result._asdict(),
        "components": [c._asdict() for c in result.components],
        "accepted": [a._asdict() for a in result.accepted],
    }


def _instant(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


@contextmanager
def _announced(recovery: Recovery, place: RegionEndpoints, report: Sink) -> Iterator[Announcer]:
    """A recovery that fails says so, and how far it came."""
    with closing(Announcer(place, "recovery", recovery.recovery_id, report)) as announcer:
        try:
            yield announcer
        except EverlodeError:
            began_ms, components = recovery.so_far()
            announcer.ended(
                RecoveryEnded(
                    plan_name=recovery.plan_name, start_time=_instant(began_ms),
                    end_time=_instant(time.time_ns() // 1_000_000), overall_success=False,
                    held=False, components=components, system_health_ppm=0,
                    estimated_data_loss_ms=0, generation=_current(place),
                )
            )  # fmt: skip
            raise


def _current(place: RegionEndpoints) -> int:
    """The generation that is read; 0 when the database cannot be asked."""
    try:
        return current_generation(place.postgres_conninfo())
    except EverlodeError:
        return 0


def _component_ended(announcer: Announcer, c: ComponentResult) -> None:
    ended = ComponentRecoveryEnded(
        component=c.component, success=c.success, recovery_time_ms=c.recovery_time_ms,
        records_restored=c.records_restored, events_replayed=c.events_replayed,
        data_loss_events=c.data_loss_events, data_loss_ms=c.data_loss_ms,
        lost_event_ids=(*(f"unknown: {name}" for name in c.unknown), *c.lost)[:NAMED],
    )  # fmt: skip
    announcer.ended(ended, c.component if c.success else "")


def _ended(announcer: Announcer, result: RecoveryResult, current: int) -> None:
    announcer.ended(
        RecoveryEnded(
            plan_name=result.plan_name, start_time=_instant(result.start_ms),
            end_time=_instant(result.end_ms), overall_success=result.overall_success,
            held=result.held,
            components=tuple(c.component for c in result.components if c.success),
            system_health_ppm=result.health_ppm,
            estimated_data_loss_ms=max(c.data_loss_ms for c in result.components),
            generation=current,
        )
    )  # fmt: skip


def recover(
    request: RecoveryRequest,
    endpoints: Endpoints,
    topology: Topology,
    store: ObjectStore,
    keys: KeyRing,
    work: Path,
    *,
    accept: Sequence[str] = (),
    reason: str = "",
    report: Sink = silent,
    services: Ask | None = None,
) -> RecoveryResult:
    """Run the request, or resume a run whose journal is in `work`: killed, or held.

    The journal of one that succeeded is put aside. `accept`: kinds of findings that do not hold it,
    by an operator's word, which is recorded with its `reason`. `services` gives the health of those
    of the region, which must be above their gate before the switch. Raises: ConfigError: no such
    region, no control cluster, a kind that cannot be accepted. Locked. NotFound; IntegrityError;
    WrongKey: nothing has changed. Unavailable: run it again to resume.
    """
    region = request.target_region
    place, control = endpoints.region(region), endpoints.control()
    copies = {n: r.kafka_bootstrap for n, r in endpoints.regions.items() if n != region}
    with alone(work, region), preferred():
        target = Target(
            region, place.origin, place.kafka_bootstrap, control,
            place.postgres_conninfo(), topology, work / RUN, copies,
        )  # fmt: skip
        recovery = Recovery(request, target, store, keys)
        with closing(recovery.journal), _announced(recovery, place, report) as announcer:
            if accept:
                recovery.accept(accept, reason, f"{getpass.getuser()}@{socket.gethostname()}")
            announcer.started(region, request.disaster_type)
            result = recovery.run(announcer.report, partial(_component_ended, announcer), services)
            _ended(announcer, result, _current(place))
        text = json.dumps(report_dict(result), indent=2, sort_keys=True)
        (work / f"{result.recovery_id}.json").write_text(text + "\n")
        if not result.held:
            os.replace(work / RUN, work / result.recovery_id)
        return result
