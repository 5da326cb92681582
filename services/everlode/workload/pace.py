"""How fast a plan is worked through: the knots of the event clock, and how they are changed.

A plan's *progress* is the share of its creations and ends that have come. The clock runs at an even
pace, and tapers off before a *limit*: the share of tasks that may have ended by then. So whoever
runs a plan never misses a moment of it, however slow the machine is: the work waits there, nearly
still, until the limit is raised. Without a limit it runs evenly to the end.

       progress
       1 |                                      /     no limit: even to the end
         |  limit 2 . . . . . . . . . . . . . ./
         |                          . - - - - '
         |  limit 1 . . . . . . . / . .
         |            . - - - - '   limit 2 set: even again, then tapering
         |         /
       0 |______/___________________________________ wall time

A change begins `LEAD_MS` after it is written, so that all processes have read it by then: the knots
before that stay as they are, and event time never goes back. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from math import exp

from everlode.workload.plan import Workload

Knots = list[tuple[int, int]]
"""(wall_ms, event_ms), both rising."""
LEAD_MS = 1_000
COUNT = 60
"""Knots of an even pace over the whole plan."""
TAPER = 0.08
"""The pace begins to taper off when this much progress is left to the limit."""
TAPERS_FOR = 8.0
"""A taper has knots for so many times its time constant: 0.03 % of it is left then."""


class Pace:
    """The clock of one plan, which takes `duration_ms` when it is never held up."""

    def __init__(self, workload: Workload, duration_ms: int) -> None:
        times = sorted(t for task in workload.tasks for t in (task.created_ms, task.ended_ms))
        last = len(times) - 1
        self._events = [times[0] - 1]
        self._events += [times[min(last, i * len(times) // COUNT)] for i in range(1, COUNT + 1)]
        """Event time at each 1/COUNT of progress."""
        self._ends = sorted(task.ended_ms for task in workload.tasks)
        self._duration_ms = duration_ms
        self.knots: Knots = []

    def begin(self, wall_ms: int, limit: float = 1.0) -> Knots:
        """Work from `wall_ms` on, until a share `limit` of the tasks has ended."""
        self.knots = [(wall_ms, self._events[0])]
        return self._go(wall_ms, 0.0, limit)

    def go_on(self, now_ms: int, limit: float = 1.0) -> Knots:
        """From now on work until this share of the tasks has ended."""
        at_ms, begun = self._until(now_ms + LEAD_MS)
        return self._go(at_ms, begun, limit)

    def _go(self, at_ms: int, begun: float, limit: float) -> Knots:
        points = self._toward(begun, self._limited(limit))
        more = [
            (at_ms + round(after * self._duration_ms), self._event(progress))
            for after, progress in points
        ]
        self.knots = _rising([*self.knots, *more])
        return self.knots

    def _toward(self, begun: float, top: float) -> Iterator[tuple[float, float]]:
        """(Time from `begun` on, in durations of the plan; progress) of the knots."""
        taper = min(TAPER, max(0.0, top - begun)) if top < 1 else 0.0
        straight = max(begun, top - taper)
        for i in range(int(begun * COUNT) + 1, COUNT + 1):
            if i / COUNT < straight:
                yield i / COUNT - begun, i / COUNT
        yield straight - begun, straight
        for i in range(1, COUNT + 1) if taper else ():
            times = TAPERS_FOR * i / COUNT
            yield straight - begun + taper * times, straight + taper * (1 - exp(-times))

    def _limited(self, limit: float) -> float:
        """Progress at which this share of the tasks has ended."""
        if limit >= 1:
            return 1.0
        return self._progress(self._ends[min(len(self._ends) - 1, int(limit * len(self._ends)))])

    def _until(self, wall_ms: int) -> tuple[int, float]:
        """Cut the knots off at a wall time; (that time, the progress at it)."""
        i = bisect_right(self.knots, wall_ms, key=lambda knot: knot[0])
        if i == 0:  # not begun yet: change it from its beginning
            wall_ms, i = self.knots[0][0], 1
        event = self.knots[i - 1][1]
        if i < len(self.knots):
            (w0, e0), (w1, e1) = self.knots[i - 1], self.knots[i]
            event = e0 + (e1 - e0) * (wall_ms - w0) // (w1 - w0)
        else:
            event += wall_ms - self.knots[-1][0]  # as the clock goes on after its last knot
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
        return min(1.0, max(0.0, i - 1 + part) / COUNT)


def _rising(knots: Sequence[tuple[int, int]]) -> Knots:
    """The knots without those that do not rise."""
    found = [knots[0]]
    for wall, event in knots[1:]:
        if wall > found[-1][0] and event > found[-1][1]:
            found.append((wall, event))
    return found
