"""How fast a plan is worked through: the knots of the event clock, and how they are changed.

A plan's *progress* is the share of its creations and ends that have come. The clock is begun at
an even pace. It can be *eased*: from then on each second takes the same share of what is left, so
that work goes on for as long as it is needed and never runs out. It can be *resumed* at the first
pace.

       progress
       1 |                        . - '       eased at E: less and less a second, never none
         |               . - - '   /
         |         .  '           /           resumed at R: the even pace again
         |      /                R
         |    /  E
       0 |__/____________________________ wall time

A change begins `LEAD_MS` after it is written, so that all processes have read it by then: the knots
before that stay as they are, and event time never goes back. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import exp

from everlode.workload.plan import Workload

Knots = list[tuple[int, int]]
"""(wall_ms, event_ms), both rising."""
LEAD_MS = 1_000
COUNT = 60
"""Knots of an even pace."""
EASED_FOR = 8.0
"""An eased pace has knots for so many times its time constant: 0.03 % of the work is left then."""


class Pace:
    """The clock of one plan, worked through evenly in `duration_ms`."""

    def __init__(self, workload: Workload, duration_ms: int) -> None:
        times = sorted(t for task in workload.tasks for t in (task.created_ms, task.ended_ms))
        last = len(times) - 1
        self._events = [times[0] - 1]
        self._events += [times[min(last, i * len(times) // COUNT)] for i in range(1, COUNT + 1)]
        """Event time at each 1/COUNT of progress."""
        self._duration_ms = duration_ms
        self.knots: Knots = []

    def begin(self, wall_ms: int) -> Knots:
        """Work evenly from `wall_ms` on."""
        self.knots = _rising([(wall_ms, self._events[0]), *self._even(0.0, wall_ms)])
        return self.knots

    def ease(self, now_ms: int) -> Knots:
        """From now on take the same share of what is left each second, at first as many as now."""
        at_ms, begun = self._until(now_ms + LEAD_MS)
        left = 1.0 - begun
        constant_ms = left * self._duration_ms
        eased = [
            (at_ms + round(constant_ms * EASED_FOR * i / COUNT), begun + left * (1 - exp(-f)))
            for i in range(1, COUNT + 1)
            for f in (EASED_FOR * i / COUNT,)
        ]
        self.knots = _rising([*self.knots, *((w, self._event(p)) for w, p in eased)])
        return self.knots

    def resume(self, now_ms: int) -> Knots:
        """From now on the first pace, to the end of the work."""
        at_ms, begun = self._until(now_ms + LEAD_MS)
        self.knots = _rising([*self.knots, *self._even(begun, at_ms)])
        return self.knots

    def _even(self, begun: float, wall_ms: int) -> Knots:
        first = int(begun * COUNT) + 1
        return [
            (wall_ms + round((i / COUNT - begun) * self._duration_ms), self._events[i])
            for i in range(first, COUNT + 1)
        ]

    def _until(self, wall_ms: int) -> tuple[int, float]:
        """Cut the knots off at a wall time; (that time, the progress at it)."""
        i = bisect_right(self.knots, wall_ms, key=lambda knot: knot[0])
        if i == 0:  # not begun yet: change it from its beginning
            wall_ms, i = self.knots[0][0], 1
        event = self.knots[i - 1][1]
        if i < len(self.knots):
            (w0, e0), (w1, e1) = self.knots[i - 1], self.knots[i]
            event = e0 + (e1 - e0) * (wall_ms - w0) // (w1 - w0)
        self.knots = [*self.knots[:i], (wall_ms, event)]
        return wall_ms, self._progress(event)

    def _event(self, progress: float) -> int:
        """Event time of a progress."""
        i = min(COUNT - 1, int(progress * COUNT))
        e0, e1 = self._events[i], self._events[i + 1]
        return e0 + round((e1 - e0) * (progress * COUNT - i))

    def _progress(self, event_ms: int) -> float:
        """Progress at an event time."""
        i = min(COUNT, max(1, bisect_right(self._events, event_ms)))
        e0, e1 = self._events[i - 1], self._events[i]
        part = (event_ms - e0) / (e1 - e0) if e1 > e0 else 1.0
        return min(1.0, (i - 1 + part) / COUNT)


def _rising(knots: Sequence[tuple[int, int]]) -> Knots:
    """The knots without those that do not rise."""
    found = [knots[0]]
    for wall, event in knots[1:]:
        if wall > found[-1][0] and event > found[-1][1]:
            found.append((wall, event))
    return found
