"""Clocks: wall time for stamps, event time for facts.

Event time is wall time, unless a run replays a trace at another pace: then all its processes
share one piecewise-linear map from wall to event time, read from a file. A drill sets the wall
clock of some processes wrong, by what another file says. Shell: reads clocks.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from everlode.errors import ConfigError

LOOK_MS = 250
"""A clock looks at its file this often."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(millis: int) -> datetime:
    """The time of a number of milliseconds since 1970."""
    return EPOCH + timedelta(milliseconds=millis)


def millis(at: datetime) -> int:
    """Milliseconds since 1970, rounded down."""
    return (at - EPOCH) // timedelta(milliseconds=1)


class Clock(Protocol):
    """Where time comes from."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970, of this machine."""

    def event_now(self) -> datetime:
        """Event time now, whole milliseconds."""


class WallClock:
    """Event time is wall time. With a `wrong_file`, both are wrong by the milliseconds in it."""

    def __init__(self, wrong_file: Path | None = None) -> None:
        self._wrong_file = wrong_file

    def wall_ms(self) -> int:
        """See Clock."""
        right = time.time_ns() // 1_000_000
        if self._wrong_file is None:
            return right
        try:
            return right + int(self._wrong_file.read_text() or 0)
        except (OSError, ValueError):
            return right

    def event_now(self) -> datetime:
        """See Clock."""
        return instant(self.wall_ms())


class PacedClock(WallClock):
    """Event time by knots (wall_ms, event_ms), both strictly rising; straight lines between.

    Before the first knot event time stands still at it; after the last it goes on with wall time.
    A clock that was loaded from a file looks whether that has changed, every `LOOK_MS`: so all
    processes of a run can be given another pace. Event time never goes back, whatever it says.
    """

    def __init__(self, knots: list[tuple[int, int]]) -> None:
        rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(knots))
        if not knots or not rising:
            raise ConfigError("clock: knots must rise", hint="[[wall_ms, event_ms], ...]")
        super().__init__()
        self._knots = ([wall for wall, _ in knots], [event for _, event in knots])
        self._path: Path | None = None
        self._written_ns = 0
        self._looked_ms = 0
        self._shown_ms = 0

    @classmethod
    def load(cls, path: Path) -> PacedClock:
        """Read the knots from a JSON file. Raises: ConfigError."""
        try:
            written_ns = path.stat().st_mtime_ns
            knots = [(int(a), int(b)) for a, b in json.loads(path.read_text())]
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"clock file {path}: {error}") from None
        made = cls(knots)
        made._path, made._written_ns = path, written_ns
        return made

    def _look_again(self, wall_ms: int) -> None:
        """Take the file's knots when it was written anew; what cannot be read is read again."""
        if self._path is None or 0 <= wall_ms - self._looked_ms < LOOK_MS:
            return
        self._looked_ms = wall_ms
        try:
            written_ns = self._path.stat().st_mtime_ns
            if written_ns != self._written_ns:
                self._knots = PacedClock.load(self._path)._knots
                self._written_ns = written_ns
        except (OSError, ConfigError):
            return  # the knots that are known stay

    def event_ms_at(self, wall_ms: int) -> int:
        """Event time of a wall time, both in milliseconds."""
        walls, events = self._knots
        i = bisect_right(walls, wall_ms)
        if i == 0:
            return events[0]
        if i == len(walls):
            return events[-1] + wall_ms - walls[-1]
        w0, w1 = walls[i - 1], walls[i]
        e0, e1 = events[i - 1], events[i]
        return e0 + (e1 - e0) * (wall_ms - w0) // (w1 - w0)

    def wall_ms_of(self, event_ms: int) -> int:
        """First wall time at which event time is `event_ms` or later, in milliseconds."""
        walls, events = self._knots
        i = bisect_left(events, event_ms)
        if i == 0:
            return walls[0]
        if i == len(events):
            return walls[-1] + event_ms - events[-1]
        w0, w1 = walls[i - 1], walls[i]
        e0, e1 = events[i - 1], events[i]
        return w0 - (w1 - w0) * (e0 - event_ms) // (e1 - e0)  # rounded up

    def event_now(self) -> datetime:
        """See Clock."""
        wall_ms = self.wall_ms()
        self._look_again(wall_ms)
        self._shown_ms = max(self._shown_ms, self.event_ms_at(wall_ms))
        return instant(self._shown_ms)
