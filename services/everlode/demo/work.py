"""The work of a run: its event clock, and how far it may go before the run's next step. Shell.

Work never runs out while a run lasts, and no step comes too late for it, however slow the machine:
it waits before the limit that the step has set.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from everlode.workload.pace import Knots, Pace
from everlode.workload.plan import Workload

RATE = 62.0
"""Tasks a second at speed 1, clients and miners together."""
LEAST_S = 12.0
LIMITS = {"work": 0.65, "backup": 0.80, "disaster": 0.86, "end": 1.0}
"""Step → share of the tasks that may have ended before the next; above what the next waits for."""
MORE = 0.03
"""A step lets at least this share go on. Of a small workload up to 8 % end in its last instant."""
NOT_YET_MS = 86_400_000
READY_MS = 2_000
"""Actors wait this long after all of them are registered, so that all know the clock."""


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Work:
    """Written to the clock file, which all processes of the run read."""

    def __init__(self, workload: Workload, speed: float, clock_file: Path) -> None:
        self.planned_s = max(LEAST_S, len(workload.tasks) / RATE) / speed
        self._pace = Pace(workload, int(self.planned_s * 1000))
        self._clock_file = clock_file
        self._limit = LIMITS["work"]

    def wait(self) -> None:
        """Let event time stand still at its beginning."""
        self._write(self._pace.begin(now_ms() + NOT_YET_MS))

    def begin(self) -> None:
        """Let the work begin."""
        self._write(self._pace.begin(now_ms() + READY_MS, self._limit))

    def go_on(self, step: str = "", more: float = 0.0) -> None:
        """Let the work go on to the step's limit, or to a little `more` than now."""
        self._limit = max(LIMITS.get(step, 0.0), self._limit + (more or MORE))
        self._write(self._pace.go_on(now_ms(), self._limit))

    def _write(self, knots: Knots) -> None:
        """In one step; each process has read it before it differs from what was."""
        draft = self._clock_file.with_suffix(".tmp")
        draft.write_text(json.dumps(knots))
        draft.replace(self._clock_file)
