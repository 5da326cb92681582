"""Times by key, the earliest first: when leases run out, and when tasks are past their deadline.

Setting and dropping cost the logarithm of what is kept, and looking at what has passed costs what
has passed. A key stays passed until it is set anew or dropped. Pure.
"""

from __future__ import annotations

from datetime import datetime
from heapq import heapify, heappop, heappush

SLACK = 1_000
"""Times that count no more, beside as many as still do."""


class Timers:
    """One time a key. Not thread-safe."""

    def __init__(self) -> None:
        self._at: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []
        self._passed: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, key: str, at: datetime) -> None:
        """The key's time, in place of one that it had."""
        self._passed.pop(key, None)
        self._at[key] = at
        heappush(self._heap, (at, key))
        if len(self._heap) > 2 * len(self._at) + SLACK:
            self._heap = [(at, key) for key, at in self._at.items() if key not in self._passed]
            heapify(self._heap)  # without those that count no more

    def drop(self, key: str) -> None:
        """The key has no time any more."""
        self._at.pop(key, None)
        self._passed.pop(key, None)

    def first(self) -> datetime | None:
        """The earliest time that has not passed, or None."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def passed(self, until: datetime) -> list[str]:
        """Keys whose time is `until` or before, by time; each again until it is set or dropped."""
        while (first := self.first()) is not None and first <= until:
            self._passed[heappop(self._heap)[1]] = None
        return [key for key in self._passed if self._at[key] <= until]
