"""Hybrid logical clock: 48 bits of milliseconds, 16 bits of counter.

Source: Kulkarni et al., "Logical Physical Clocks", 2014. Strictly rising for one holder, and above
every stamp it has observed. Wall time is an input. Pure.
"""

from __future__ import annotations

from everlode.errors import Refusal

COUNTER_BITS = 16
MAX_AHEAD_MS = 300_000
"""A writer refuses to stamp further than this ahead of the regions' median."""


def millis_of(stamp: int) -> int:
    """Wall milliseconds in a stamp."""
    return stamp >> COUNTER_BITS


def stamp_at(millis: int, counter: int = 0) -> int:
    """The stamp of a wall time."""
    return (millis << COUNTER_BITS) | counter


class HybridClock:
    """Gives stamps; one holder, not thread-safe."""

    __slots__ = ("last",)

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def observe(self, stamp: int) -> None:
        """Stay above `stamp`, the stamp of a cause."""
        self.last = max(self.last, stamp)

    def next(self, wall_ms: int, cause: int = 0) -> int:
        """The next stamp at wall time `wall_ms`, above the stamp of a `cause`.

        Raises:
            Refusal: the cause's or an observed stamp lies more than MAX_AHEAD_MS ahead of the
                wall time. A cause that is refused leaves no trace.
        """
        last = max(self.last, cause)
        if millis_of(last) > wall_ms + MAX_AHEAD_MS:
            raise Refusal(
                f"clock skew: an observed stamp is {millis_of(last) - wall_ms} ms ahead",
                code="clock_skew",
                hint="set this machine's clock, or the one that wrote the record",
            )
        self.last = max(last + 1, stamp_at(wall_ms))
        return self.last
