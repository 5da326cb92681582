"""The archive of one fact topic: aggregates that have ended, found by their names.

An ended aggregate leaves a primary's memory; a repeat of its commands, a fraud case or an audit
may still ask for it. It is then read from the archive, one record at its offset, and kept for a
while. Beside each validation stands who handed its solution in first (`ArchivedSolution`).
Invariant: what was never archived costs no read. Shell; any thread may look for something.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from everlode.adapters.kafka import Raw, Reader
from everlode.avro.codec import Codec
from everlode.avro.snapshots import decode_snapshot
from everlode.errors import IntegrityError, Unavailable
from everlode.events.snapshots import ArchivedSolution, ArchivePage, HandedIn, SnapshotEntry
from everlode.events.states import State
from everlode.snapshots.index import PartitionIndex, name_hash
from everlode.topics.names import archive_topic
from everlode.topics.partition import partition_of

ENDED_AT_HAND = 10_000
"""Ended aggregates that were asked for last, and as many solutions, unless a setting says else."""
READ_S = 10.0


class Kept(NamedTuple):
    """An aggregate as it is kept, in memory or here; `state` is None once it was deleted."""

    version: int
    event_id: str
    state: State | None


def archive_key(component: str, key: str) -> str:
    """Key of an aggregate's records in the archive."""
    return f"{component}/{key}"


def solution_key(home: str, sha256: str) -> str:
    """Key of a solution's records, one in each partition."""
    return f"solutions/{home}/{sha256}"


class Archive:
    """It knows what is before its `positions`."""

    def __init__(
        self,
        bootstrap: str,
        origin: str,
        component: str,
        partitions: int,
        at_hand: int = ENDED_AT_HAND,
    ) -> None:
        self.topic = archive_topic(origin, component)
        self.indexes = [PartitionIndex() for _ in range(partitions)]
        self._partitions = partitions
        self._at_hand = at_hand
        self._codec = Codec()
        self._bootstrap, self._group = bootstrap, f"archive-{component}-{origin}"
        self._reader: Reader | None = None  # made once something is asked for
        self._guard = threading.RLock()
        """One reader, and what it has read."""
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()
        self._solutions: OrderedDict[tuple[int, bytes], tuple[HandedIn, ...]] = OrderedDict()

    def start(self, pages: Mapping[int, Sequence[ArchivePage]]) -> None:
        """Take the pages over; what was archived since is to be noted, from `positions` on."""
        self.indexes = [PartitionIndex(pages.get(p, ())) for p in range(self._partitions)]
        self._kept.clear()
        self._solutions.clear()

    def start_anew(self, ends: Sequence[int]) -> None:
        """Leave out all before these offsets: it will be archived again."""
        self.start({})
        for index, end in zip(self.indexes, ends, strict=True):
            index.end = end

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """Up to where the archive is known, by topic and partition."""
        return {(self.topic, p): index.end for p, index in enumerate(self.indexes)}

    def knows(self, raw: Raw) -> bool:
        """True for a record that was noted, or added here."""
        return raw.offset < self.indexes[raw.partition].end

    def added(self, partition: int, key: bytes, offset: int) -> None:
        """Something is archived; in order within a partition."""
        with self._guard:
            self.indexes[partition].add(name_hash(key), offset)
            self._solutions.pop((partition, key), None)
            component, _, name = key.decode().partition("/")
            self._kept.pop((component, name), None)

    def find(self, component: str, key: str) -> Kept | None:
        """An aggregate that has ended, as it was archived last; None when there is none.

        Raises: Unavailable: Kafka does not give it now. IntegrityError: what stands there is no
        such record.
        """
        with self._guard:
            known = self._kept.get((component, key))
            if known is not None:
                return known
            name = archive_key(component, key).encode()
            raw = self._named(partition_of(key, self._partitions), name)
            if raw is None:
                return None
            found = self._kept[component, key] = self._ended(raw)
            while len(self._kept) > self._at_hand:
                self._kept.popitem(last=False)
            return found

    def firsts(self, home: str, sha256: str) -> tuple[HandedIn, ...]:
        """Who handed a solution in first: see `fraudrules.firsts`. Raises: as `find`."""
        each = (self.firsts_in(p, home, sha256) for p in range(self._partitions))
        return tuple(one for found in each for one in found)

    def firsts_in(self, partition: int, home: str, sha256: str) -> tuple[HandedIn, ...]:
        """Of the validations of one partition. Raises: as `find`."""
        name = solution_key(home, sha256).encode()
        with self._guard:
            known = self._solutions.get((partition, name))
            if known is not None:
                return known
            raw = self._named(partition, name)
            if raw is None:
                return ()
            found = decode_snapshot(self._codec, raw.value)
            if not isinstance(found, ArchivedSolution):
                raise IntegrityError(f"{raw.topic}/{raw.partition}@{raw.offset}: no solution")
            self._solutions[partition, name] = found.first
            while len(self._solutions) > self._at_hand:
                self._solutions.popitem(last=False)
            return found.first

    def _named(self, partition: int, name: bytes) -> Raw | None:
        offset = self.indexes[partition].find(name_hash(name))
        raw = None if offset is None else self._read(partition, offset)
        return raw if raw is None or raw.key == name else None  # two names with one hash

    def _ended(self, raw: Raw) -> Kept:
        entry = decode_snapshot(self._codec, raw.value)
        if not isinstance(entry, SnapshotEntry):
            raise IntegrityError(f"{raw.topic}/{raw.partition}@{raw.offset}: no entry")
        state = None if entry.state is None else self._codec.decode_state(entry.state)
        return Kept(entry.version, entry.event_id, state)

    def _read(self, partition: int, offset: int) -> Raw:
        where = f"{self.topic}/{partition}@{offset}"
        if self._reader is None:
            self._reader = Reader(self._bootstrap, self._group, wait_ms=10)
        self._reader.assign({(self.topic, partition): offset})
        deadline = time.monotonic() + READ_S
        while time.monotonic() < deadline:
            for raw in self._reader.batch(1, 0.5):
                self._reader.assign({})
                if raw.offset == offset:
                    return raw
                raise IntegrityError(f"{where}: it is not there any more", code="archive_damaged")
        self._reader.assign({})
        raise Unavailable(f"{where}: Kafka does not give it now", code="archive_unavailable")

    def close(self) -> None:
        """Leave."""
        if self._reader is not None:
            self._reader.close()


Find = Callable[[str, str], Kept | None]
"""Component and key → an ended aggregate."""


def nothing(_: str, __: str) -> Kept | None:
    """No archive: nothing has ended."""
    return None
