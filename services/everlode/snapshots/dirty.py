"""Which aggregates have changed since they were written to the snapshot.

A snapshot is written a little at a time while facts go on, as a database writes a fuzzy
checkpoint (Mohan et al., ARIES, 1992). Its entries may be newer than its mark: folding a fact
again that is in an entry changes nothing, for versions say so. For a partition whose facts at
offsets 7 and 9 changed `a`, and 8 changed `b`:

      note(a, 7)  note(b, 8)  note(a, 9)       dirty: a since 7, b since 8     mark: up to 7
      written: a                               dirty: b since 8                mark: up to 8
      written: b                               dirty: -                        mark: up to 10

Invariant: an entry is as new as its aggregate was when it was taken, and the mark is not above the
first change that no entry holds. Pure, but for the clock that it is given.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterator
from typing import NamedTuple

Key = tuple[str, str]
"""State component and key."""


class FactAt(NamedTuple):
    """Where a fact stands."""

    partition: int
    offset: int
    seq: int


class _Change(NamedTuple):
    first: FactAt
    last: int
    """Offset of the last change."""
    since_s: float


class Dirty:
    """Changed aggregates by partition, in the order of their first change."""

    def __init__(self, mono_s: Callable[[], float]) -> None:
        self._mono_s = mono_s
        self._changes: dict[int, OrderedDict[Key, _Change]] = {}

    def note(self, key: Key, first: FactAt, last: int) -> None:
        """It was changed by facts from `first` to the offset `last`, in offset order."""
        changes = self._changes.setdefault(first.partition, OrderedDict())
        known = changes.get(key)
        if known is None:
            changes[key] = _Change(first, last, self._mono_s())
        else:
            changes[key] = _Change(known.first, last, known.since_s)  # keeps its place

    def first(self, partition: int, but: Container[Key] = ()) -> FactAt | None:
        """The first change of a partition that no entry holds, `but` those about to be written."""
        changes = self._changes.get(partition) or OrderedDict[Key, _Change]()
        return next((change.first for key, change in changes.items() if key not in but), None)

    def oldest(self, until_s: float) -> Iterator[tuple[int, Key]]:
        """Partition and key of what has changed before `until_s`, oldest first by partition."""
        for partition, changes in self._changes.items():
            for key, change in changes.items():
                if change.since_s > until_s:
                    break
                yield partition, key

    def written(self, partition: int, key: Key) -> None:
        """Its entry is as new as it is itself."""
        changes = self._changes.get(partition)
        if changes:
            changes.pop(key, None)

    def forget(self, key: Key) -> None:
        """It is in the archive, as new as it is here."""
        for changes in self._changes.values():
            changes.pop(key, None)

    def trim(self, partition: int, next_offset: int) -> None:
        """Another's mark stands before `next_offset`: what has not changed since is written."""
        changes = self._changes.get(partition)
        while changes:
            key, change = next(iter(changes.items()))
            if change.last >= next_offset:
                return
            del changes[key]

    def __len__(self) -> int:
        return sum(map(len, self._changes.values()))
