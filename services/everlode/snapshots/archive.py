"""The archive of one fact topic: aggregates that have ended, found by their names.

An ended aggregate leaves a primary's memory; a repeat of its commands, a fraud case or an audit
may still ask for it. It is then read from the archive, one record at its offset, and kept for a
while. Invariant: what was never archived costs no read. Shell.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from everlode.adapters.kafka import Raw, Reader
from everlode.avro.codec import Codec
from everlode.avro.snapshots import decode_snapshot
from everlode.errors import IntegrityError, Unavailable
from everlode.events.snapshots import ArchivePage, SnapshotEntry
from everlode.events.states import State
from everlode.snapshots.index import PartitionIndex, name_hash
from everlode.topics.names import archive_topic
from everlode.topics.partition import partition_of

KEPT = 10_000
"""Ended aggregates at hand that were asked for last."""
READ_S = 10.0


class Kept(NamedTuple):
    """An aggregate as it is kept, in memory or here; `state` is None once it was deleted."""

    version: int
    event_id: str
    state: State | None


def archive_key(component: str, key: str) -> str:
    """Key of an aggregate's records in the archive."""
    return f"{component}/{key}"


class Archive:
    """Not thread-safe. It knows what is before its `positions`."""

    def __init__(self, bootstrap: str, origin: str, component: str, partitions: int) -> None:
        self.topic = archive_topic(origin, component)
        self.indexes = [PartitionIndex() for _ in range(partitions)]
        self._partitions = partitions
        self._codec = Codec()
        self._bootstrap, self._group = bootstrap, f"archive-{component}-{origin}"
        self._reader: Reader | None = None  # made once something is asked for
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()

    def start(self, pages: Mapping[int, Sequence[ArchivePage]]) -> None:
        """Take the pages over; what was archived since is to be noted, from `positions` on."""
        self.indexes = [PartitionIndex(pages.get(p, ())) for p in range(self._partitions)]
        self._kept.clear()

    def start_anew(self, ends: Sequence[int]) -> None:
        """Leave out all before these offsets: it will be archived again."""
        self.start({})
        for index, end in zip(self.indexes, ends, strict=True):
            index.end = end

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """Up to where the archive is known, by topic and partition."""
        return {(self.topic, p): index.end for p, index in enumerate(self.indexes)}

    def note(self, raw: Raw) -> None:
        """A record of the archive, in order within a partition. Idempotent."""
        if raw.key is not None and raw.offset >= self.indexes[raw.partition].end:
            self.indexes[raw.partition].add(name_hash(raw.key), raw.offset)

    def added(self, partition: int, key: bytes, offset: int) -> None:
        """This node has archived something."""
        self.indexes[partition].add(name_hash(key), offset)

    def find(self, component: str, key: str) -> Kept | None:
        """An aggregate that has ended, as it was archived last; None when there is none.

        Raises: Unavailable: Kafka does not give it now. IntegrityError: what stands there is no
        such record.
        """
        known = self._kept.get((component, key))
        if known is not None:
            return known
        partition = partition_of(key, self._partitions)
        name = archive_key(component, key).encode()
        offset = self.indexes[partition].find(name_hash(name))
        if offset is None:
            return None
        raw = self._read(partition, offset)
        if raw.key != name:
            return None  # two names with one hash
        found = self._ended(raw)
        self._kept[component, key] = found
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found

    def forget(self, component: str, key: str) -> None:
        """It has changed: what was at hand is out of date."""
        self._kept.pop((component, key), None)

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
