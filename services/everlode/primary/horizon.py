"""How far a primary has read what its members have sent, as a time.

What a member loses when its time is over (a lease, a task's deadline) is not taken by the clock on
the wall: commands that were stored before the end count, however long nobody has read them.

      12:00  a lease ends; nobody leads        log   … │ solution │ … 1,999 more │
      12:40  a primary leads, and asks where the log ends: 2,000
      12:40  500 are read, … 1,500 are read                       nothing ends
      12:41  2,000 are read, with all that was stored by 12:40: the lease ends, if its
             solution was not among it

Invariants: the time never goes back between two `start`s, and is never ahead of the clock; nothing
is asked while nothing could end. The times that strangers write on their records are not looked at:
only where the log ended when it was asked. Pure, but for the asking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from everlode.errors import Unavailable
from everlode.topics.place import TopicPartition

Places = Mapping[TopicPartition, int]


class Horizon:
    """Of one primary; `start` with each promotion."""

    def __init__(self, ask: Callable[[Places], Places]) -> None:
        """`ask(positions)`: ends of the partitions that hold something from these on.

        It may raise Unavailable: then nothing ends yet.
        """
        self._ask = ask
        self._until: datetime | None = None
        self._starts: Places = {}
        self._todo: Places = {}
        """The partitions of the last question that are not read to the end that they had."""
        self._asked_at: datetime | None = None
        """When it was asked; None: no question is open."""

    def start(self, starts: Places) -> None:
        """Commands are read from here on; nothing was read yet."""
        self._until, self._asked_at = None, None
        self._starts = dict(starts)

    def until(
        self, ends_at: datetime | None, now: datetime, positions: Callable[[], Places]
    ) -> datetime | None:
        """All commands that were stored by then are among what was read; None: not known yet.

        `ends_at`: when somebody's time ends next, in event time like `now`. `positions`: of the
        next commands to read, below their start where none was read; those before count as read.
        """
        if ends_at is None or ends_at > now or (self._until is not None and ends_at <= self._until):
            return self._until
        found = positions()
        at = {place: max(start, found.get(place, start)) for place, start in self._starts.items()}
        if self._asked_at is None:
            try:
                self._todo = self._ask(at)
            except Unavailable:
                return self._until
            self._asked_at = now
        self._todo = {place: end for place, end in self._todo.items() if at[place] < end}
        if not self._todo:
            self._until, self._asked_at = max(self._until or self._asked_at, self._asked_at), None
        return self._until
