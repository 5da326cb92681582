"""Clocks: wall time for stamps, event time for facts.

Event time is wall time, unless a run replays a trace at another pace: then all its processes
share one piecewise-linear map from wall to event time, read from a file. Shell: reads clocks.
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
    """Event time is wall time."""

    def wall_ms(self) -> int:
        """See Clock."""
        return time.time_ns() // 1_000_000

    def event_now(self) -> datetime:
        """See Clock."""
        return instant(self.wall_ms())


class PacedClock(WallClock):
    """Event time by knots (wall_ms, event_ms), both strictly rising; straight lines between.

    Before the first knot event time stands still at it; after the last it goes on with wall time.
    """

    def __init__(self, knots: list[tuple[int, int]]) -> None:
        rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(knots))
        if not knots or not rising:
            raise ConfigError("clock: knots must rise", hint="[[wall_ms, event_ms], ...]")
        self._wall = [wall for wall, _ in knots]
        self._event = [event for _, event in knots]

    @classmethod
    def load(cls, path: Path) -> PacedClock:
        """Read the knots from a JSON file. Raises: ConfigError."""
        try:
            knots = [(int(a), int(b)) for a, b in json.loads(path.read_text())]
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"clock file {path}: {error}") from None
        return cls(knots)

    def event_ms_at(self, wall_ms: int) -> int:
        """Event time of a wall time, both in milliseconds."""
        i = bisect_right(self._wall, wall_ms)
        if i == 0:
            return self._event[0]
        if i == len(self._wall):
            return self._event[-1] + wall_ms - self._wall[-1]
        w0, w1 = self._wall[i - 1], self._wall[i]
        e0, e1 = self._event[i - 1], self._event[i]
        return e0 + (e1 - e0) * (wall_ms - w0) // (w1 - w0)

    def wall_ms_of(self, event_ms: int) -> int:
        """First wall time at which event time is `event_ms` or later, in milliseconds."""
        i = bisect_left(self._event, event_ms)
        if i == 0:
            return self._wall[0]
        if i == len(self._event):
            return self._wall[-1] + event_ms - self._event[-1]
        w0, w1 = self._wall[i - 1], self._wall[i]
        e0, e1 = self._event[i - 1], self._event[i]
        return w0 - (w1 - w0) * (e0 - event_ms) // (e1 - e0)  # rounded up

    def event_now(self) -> datetime:
        """See Clock."""
        return instant(self.event_ms_at(self.wall_ms()))
