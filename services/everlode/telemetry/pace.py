"""How far something is that lasts, reported once a second and at its end. Shell: a clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from everlode.telemetry.entries import Progress
from everlode.telemetry.sink import Sink

EVERY_S = 1.0


class Pace:
    """Counts what is done; `total` 0: not known, and then nobody can tell the end. Thread-safe."""

    def __init__(
        self,
        report: Sink,
        what: str,
        total: int = 0,
        unit: str = "records",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report, self._what, self._total, self._unit = report, what, total, unit
        self._clock = clock
        self._done = 0
        self._guard = threading.Lock()
        self._began = self._reported = clock()

    def more(self, count: int = 1) -> None:
        """So many more are done."""
        with self._guard:
            self._done += count
            now = self._clock()
            if now - self._reported < EVERY_S and not 0 < self._total <= self._done:
                return
            self._reported = now
            rate = self._done / max(now - self._began, 1e-3)
            self._report(Progress(self._what, self._done, self._total, self._unit, rate))
