"""The last events of a stream, which all listeners share, and where each of them stands.

Invariants: what is in the ring is all that there was of each partition from its floor on; a
listener gets each event once, in the order of its partition, or is told that it cannot. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from everlode.errors import Refusal


class Item(NamedTuple):
    """One event, encoded once for all listeners."""

    place: int
    """Which of the stream's partitions."""
    offset: int
    type: str
    region: str
    scope: str
    operation: str
    text: str
    """The event as JSON."""


class Wanted(NamedTuple):
    """What a listener asks for; empty: any."""

    types: frozenset[str] = frozenset()
    scope: str = ""
    region: str = ""
    operation: str = ""

    def has(self, item: Item) -> bool:
        """Whether an event is wanted."""
        return (
            (not self.types or item.type in self.types)
            and self.scope in ("", item.scope)
            and self.region in ("", item.region)
            and self.operation in ("", item.operation)
        )


class Ring:
    """At most `most` events; the oldest make room for new ones."""

    def __init__(self, floors: Sequence[int], most: int) -> None:
        """`floors`: the offset of each partition from which on all records come."""
        self.floors = list(floors)
        self.heads = list(floors)
        """Next offset of each partition."""
        self.first = 0
        """How many events have made room."""
        self._most = most
        self._items: deque[Item] = deque()

    @property
    def end(self) -> int:
        """How many events there were."""
        return self.first + len(self._items)

    def passed(self, place: int, offset: int) -> None:
        """A record that is no event was read."""
        self.heads[place] = max(self.heads[place], offset + 1)

    def add(self, item: Item) -> bool:
        """Take an event in; False: it was there before."""
        if item.offset < self.heads[item.place]:
            return False
        self.heads[item.place] = item.offset + 1
        self._items.append(item)
        if len(self._items) > self._most:
            gone = self._items.popleft()
            self.floors[gone.place] = gone.offset + 1
            self.first += 1
        return True

    def kept(self) -> Iterator[Item]:
        """All events that are kept, oldest first."""
        return iter(self._items)

    def at(self, number: int) -> Item:
        """The event that `number` others were before. Raises: IndexError: it has made room."""
        if number < self.first:
            raise IndexError(number)
        return self._items[number - self.first]


class Cursor:
    """Where one listener stands: `offsets` of what it gets next."""

    def __init__(self, ring: Ring, offsets: Sequence[int] | None = None) -> None:
        """From these offsets; without them from now on.

        Raises: Refusal: `position_expired`: what came after them is no longer kept here.
        """
        self._ring = ring
        if offsets is None:
            self.offsets, self._next = list(ring.heads), ring.end
            return
        if any(at < floor for at, floor in zip(offsets, ring.floors, strict=True)):
            raise Refusal("what came after the position is no longer kept", code="position_expired")
        self.offsets, self._next = list(offsets), ring.first

    @property
    def ahead(self) -> bool:
        """Whether the ring has not come to the listener's position yet."""
        return any(at > head for at, head in zip(self.offsets, self._ring.heads, strict=True))

    @property
    def dropped(self) -> bool:
        """Whether events that it has not got have made room: it was too slow."""
        return self._next < self._ring.first

    def take(self, wanted: Wanted, most: int) -> list[tuple[Item, list[int]]]:
        """Up to `most` wanted events, each with the offsets after it; passes over the others.

        Looks at no more than ten times as many. Empty, too, when it was dropped.
        """
        found: list[tuple[Item, list[int]]] = []
        last = min(self._ring.end, self._next + 10 * most)
        while not self.dropped and self._next < last and len(found) < most:
            item = self._ring.at(self._next)
            self._next += 1
            if item.offset >= self.offsets[item.place]:
                self.offsets[item.place] = item.offset + 1
                if wanted.has(item):
                    found.append((item, list(self.offsets)))
        return found

    @property
    def level(self) -> bool:
        """Whether it has got all there is."""
        return self._next == self._ring.end
