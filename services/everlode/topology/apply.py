"""Carries a plan out, step after step: written down, then waited for.

The file that is written is the supervisor's; this process starts and ends nothing itself. So it
can be killed at any point: the supervisor finishes what was written, and the next apply plans from
that. Invariants: one apply of a stack at a time; a step begins when the one before it has come
true; what is refused changes nothing. Shell: files, a clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from everlode.errors import DeadlineExceeded, Precondition
from everlode.settings.endpoints import Endpoints
from everlode.telemetry.entries import Note, Progress
from everlode.telemetry.sink import Sink
from everlode.topology.model import Network
from everlode.topology.plan import Leave, Plan, Step, as_row, begun, carried_out, plan
from everlode.topology.running import look, only_one, write_down
from everlode.topology.watch import Watch

LOOK_S = 0.1


def planned(folder: Path, wanted: Network) -> Plan:
    """What an apply would do now.

    Raises: NotFound, Precondition: see `look`; the plan is refused, with all reasons.
    """
    found = plan(wanted, look(folder))
    if found.refused:
        raise Precondition(
            "; ".join(found.refused), code="topology_refused",
            hint="nothing was changed; everlode topology show prints what runs",
        )  # fmt: skip
    return found


def apply(
    folder: Path, wanted: Network, sure: Callable[[Plan], None], timeout_s: float, report: Sink
) -> tuple[Step, ...]:
    """Make the stack in `folder` what is wanted. Returns the steps; none when it is so already.

    `sure` is asked before the first step, and raises unless it may be done. Raises: as `planned`;
    Locked: another apply works on it; Unavailable: a step cannot come true; DeadlineExceeded: not
    within `timeout_s`. After an error the same apply goes on where it was.
    """
    look(folder)  # so that there is a folder to lock
    with only_one(folder):
        steps = planned(folder, wanted).steps
        if not steps:
            return ()
        sure(Plan(steps))
        watch = Watch(folder, Endpoints.load(folder))
        try:
            _carry_out(folder, steps, watch, report, time.monotonic() + timeout_s)
        finally:
            watch.close()
    return steps


def _carry_out(
    folder: Path, steps: tuple[Step, ...], watch: Watch, report: Sink, deadline: float
) -> None:
    running = look(folder)
    for number, step in enumerate(steps, start=1):
        text = described(step)
        began = time.monotonic()
        report(Note("topology", f"{number} of {len(steps)}: {text}"))
        write_down(folder, begun(running, step))
        lacks = ""
        while now := watch.lacks(step):
            if now != lacks:
                lacks = now
                report(Note("topology", f"{text}: waits until {lacks}"))
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"{text}: it still waits until {lacks}",
                    hint="apply again: it goes on from here; or a longer --timeout",
                )
            time.sleep(LOOK_S)
        running = carried_out(running, step)
        if isinstance(step, Leave):
            write_down(folder, running)
        report(Note("topology", f"{text}: done after {time.monotonic() - began:.1f} s"))
        report(Progress("topology", number, len(steps), "steps"))


def described(step: Step) -> str:
    """A step for people."""
    row = as_row(step)
    subject = row.get("process") or row["scope"]
    return f"{row['step']} {subject}" + (f" ({row['why']})" if row["why"] else "")
