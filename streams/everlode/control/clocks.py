"""Whether this process's wall clock is right, by what the others' renewals on the control log show.

A renewal says in `occurred_at` what its sender's wall clock showed. A region's clock is the median
of its lease holders'; the network's is the median of the regions'. Of an even number the two in
the middle bound a range in which nobody is wrong: where half show this and half that, nobody is
judged. So one wrong clock of three is outvoted, and one wrong region of three. Between renewals
time goes on by the monotonic clock; a clock that was not shown for a while has no vote.
All times are milliseconds, `mono_ms` those of this process's monotonic clock. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from everlode.events.stamp import MAX_AHEAD_MS

KEPT_MS = 30_000
"""A clock that was not shown for so long has no vote."""
REPORTED_MS = 30_000
"""A clock that is wrong by more is reported; by more than MAX_AHEAD_MS, its node leads nothing."""
Range = tuple[int, int]


class _Shown(NamedTuple):
    """A clock of another process: what it showed, and when that was read."""

    wall_ms: int
    mono_ms: int


class Clocks:
    """What one process knows of the others' clocks. Not thread-safe."""

    def __init__(self, region: str, node_id: str) -> None:
        self._me = (region, node_id)
        self._shown: dict[tuple[str, str], _Shown] = {}

    def observe(self, region: str, node_id: str, wall_ms: int, mono_ms: int) -> None:
        """A renewal of a node was read, just after it was sent."""
        self._shown[region, node_id] = _Shown(wall_ms, mono_ms)

    def others(self, mono_ms: int) -> int:
        """How many others have a vote now."""
        return len(self._fresh(mono_ms))

    def ahead_ms(self, wall_ms: int, mono_ms: int) -> int:
        """By how much this process's clock is ahead of the network's; negative: behind; 0: right,
        or nobody can say.
        """
        low, high = self._network({self._me[0]: [wall_ms]}, mono_ms)
        return max(0, wall_ms - high) + min(0, wall_ms - low)

    def beyond_ms(self, wall_ms: int, mono_ms: int) -> int:
        """By how much a clock that has no vote itself is ahead of the network's; 0: it is not, or
        nobody can say.
        """
        if not self._fresh(mono_ms):
            return 0
        return max(0, wall_ms - self._network({}, mono_ms)[1])

    def _network(self, by_region: dict[str, list[int]], mono_ms: int) -> Range:
        for (region, _), shown in self._fresh(mono_ms).items():
            by_region.setdefault(region, []).append(shown.wall_ms + mono_ms - shown.mono_ms)
        return _middle([_middle((at, at) for at in clocks) for clocks in by_region.values()])

    def _fresh(self, mono_ms: int) -> dict[tuple[str, str], _Shown]:
        return {
            who: shown
            for who, shown in self._shown.items()
            if who != self._me and mono_ms - shown.mono_ms <= KEPT_MS
        }


def _middle(ranges: Iterable[Range]) -> Range:
    """The median of ranges: the lower one of their lows, the upper one of their highs."""
    known = list(ranges)
    lows, highs = sorted(low for low, _ in known), sorted(high for _, high in known)
    return lows[(len(known) - 1) // 2], highs[len(known) // 2]


def judged(ahead_ms: int) -> bool:
    """Whether a clock that is so far ahead, or behind, is too wrong to lead with."""
    return abs(ahead_ms) > MAX_AHEAD_MS
