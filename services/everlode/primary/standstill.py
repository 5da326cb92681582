"""Whether a follower stands still while its log moves.

Where a primary leads, barriers come each second: positions that stay where they are, while the
log's ends rise, are a reader that reads nothing. The node lives and beats all the same, so its
beat says so. Pure, but for the asking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from everlode.errors import Unavailable

STILL_S = 10.0
"""Positions that have not moved for so long are looked at."""


class Standstill:
    """Of one follower. Not thread-safe, but for `found`."""

    def __init__(self, ends: Callable[[], Sequence[int]]) -> None:
        """`ends`: of the log's partitions, in their order; it may raise Unavailable."""
        self.found = False
        """Whether it stands still."""
        self._ask = ends
        self._positions: list[int] = []
        self._ends: list[int] | None = None
        """Of the log, since the positions stand still."""
        self._look_at = 0.0

    def look(self, positions: Sequence[int], now_s: float) -> None:
        """Once a turn; `positions`: of the partitions, `now_s`: on the monotonic clock."""
        if list(positions) != self._positions:
            self.moved(positions, now_s)
        elif now_s >= self._look_at:
            self._look_at = now_s + STILL_S
            try:
                ends = list(self._ask())
            except Unavailable:
                return  # nobody can read now
            self.found = self._ends is not None and ends != self._ends
            self._ends = self._ends or ends

    def moved(self, positions: Sequence[int], now_s: float) -> None:
        """It has read something, or leads."""
        self.found, self._positions, self._ends = False, list(positions), None
        self._look_at = now_s + STILL_S
