"""Whether a node stands still: a follower while its log moves, a primary in one turn.

Where a primary leads, barriers come each second: positions that stay where they are, while the
log's ends rise, are a reader that reads nothing. A turn of a primary that does not end is one that
something blocks, e.g. a payment system. The node lives and beats all the same, so its beat says so.
Pure, but for the asking and a monotonic clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from everlode.errors import Unavailable
from everlode.membership.agent import Load

STILL_S = 10.0
"""Positions that have not moved for so long are looked at; a turn that takes so long stands."""


def stood(load: Load, why: str) -> Load:
    """The load of a node that stands still for this reason; without one, as it is. Pure."""
    return load._replace(stands_still=True, waits_for=load.waits_for or why) if why else load


class Standstill:
    """Of one follower. Not thread-safe, but for `found` and `stands`."""

    def __init__(self, ends: Callable[[], Sequence[int]]) -> None:
        """`ends`: of the log's partitions, in their order; it may raise Unavailable."""
        self.found = False
        """Whether it stands still."""
        self._ask = ends
        self._positions: list[int] = []
        self._ends: list[int] | None = None
        """Of the log, since the positions stand still."""
        self._look_at = 0.0

    def stands(self) -> str:
        """What to say of it; empty: it does not stand still."""
        return "its own log: it moves on, unread" if self.found else ""

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


class Turns:
    """The turns of one primary; enter it for each. `stands` may be called from any thread."""

    def __init__(self) -> None:
        self._began: float | None = None
        """Monotonic; None between two turns."""

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._began = None

    def stands(self) -> str:
        """What to say of a turn that stands still; empty: none does."""
        began = self._began
        took_s = 0.0 if began is None else time.monotonic() - began
        return f"a turn that began {took_s:.0f} s ago" if took_s >= STILL_S else ""
