"""Hybrid logical clock: 48 bits of milliseconds, 16 bits of counter.

Source: Kulkarni et al., "Logical Physical Clocks", 2014. Strictly rising for one holder, and above
every stamp it has observed, also when its wall clock is set back: then they rise by the counter
alone until that has caught up. Wall time is an input. Pure.
"""

from __future__ import annotations

from everlode.errors import Refusal

COUNTER_BITS = 16
MAX_AHEAD_MS = 300_000
"""Nobody stamps further than this ahead of the median of the regions' clocks: a node whose wall
clock is leads nothing (see `control.clocks`), and a cause that is further ahead is refused."""


def millis_of(stamp: int) -> int:
    """Wall milliseconds in a stamp."""
    return stamp >> COUNTER_BITS


def stamp_at(millis: int, counter: int = 0) -> int:
    """The stamp of a wall time."""
    return (millis << COUNTER_BITS) | counter


class HybridClock:
    """Gives stamps; one holder, not thread-safe."""

    __slots__ = ("_log", "last")

    def __init__(self, last: int = 0) -> None:
        self.last = self._log = last

    def observe(self, stamp: int) -> None:
        """Go on above `stamp`, which is in this holder's own log already."""
        self.last = max(self.last, stamp)
        self._log = max(self._log, stamp)

    def forget(self) -> None:
        """Go on above what was observed alone: stamps since then are in no log, and never will be.

        So a batch that was decided while the wall clock was wrong leaves no trace."""
        self.last = self._log

    def next(self, wall_ms: int, cause: int = 0) -> int:
        """The next stamp at wall time `wall_ms`, above the stamp of a `cause`.

        Raises:
            Refusal: the cause's stamp lies more than MAX_AHEAD_MS ahead of the wall time and of
                the log as it was observed. A cause that is refused leaves no trace.
        """
        bound = max(wall_ms, millis_of(self._log)) + MAX_AHEAD_MS
        if millis_of(cause) > bound:
            raise Refusal(
                f"clock skew: a cause is stamped {millis_of(cause) - wall_ms} ms ahead",
                code="clock_skew",
                hint="set this machine's clock, or the one that wrote the record",
            )
        self.last = max(self.last + 1, cause + 1, stamp_at(wall_ms))
        return self.last
