"""The work of miners: an index of the tasks' log by miner, kept in the transactions of its facts.

      facts    task t: TaskAssigned a ──┐ one transaction
      work     a|t AssignedTask       ◄─┘

So a miner reads its own partition of it, and no task facts. The index says nothing that the folds
do not know: whoever begins to lead compares it with them while it works, and writes what differs.
That is nothing after a failover; all of it where another build has led; and after a takeover or a
homecoming what was adopted, or has left. Who waits for the first answers waits for none of it: it
begins a little later, and a turn looks at LOOK records and writes MANY at most. Memory: a hash for
each task under way, while it compares. Shell.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from everlode.adapters.kafka import Reader, Record
from everlode.adapters.kafka_offsets import within
from everlode.errors import Unavailable
from everlode.events.snapshots import AssignedTask, work_key
from everlode.log.folds import Folds
from everlode.settings.endpoints import RegionParts
from everlode.snapshots.work import Change, assigned, record, records
from everlode.topics.names import work_topic
from everlode.topics.partition import partition_of
from everlode.topics.place import TopicPartition

LOOK = 2_000
"""Records, and then tasks, that one transaction's turn looks at."""
MANY = 1_000
"""Differences that one transaction mends."""
ASK_S = 1.0
LATER_S = 1.0


class _Entry(NamedTuple):
    partition: int
    key: bytes
    task_id: str


class WorkIndex:
    """Of one writer of a fact log; unless it is `kept`, there is none. Not thread-safe."""

    def __init__(self, folds: Folds, parts: RegionParts, *, kept: bool) -> None:
        self._folds, self._parts, self._kept = folds, parts, kept
        self._topic = work_topic(parts.origin)
        self._homes: Container[str] = ()
        self._begins_at: float | None = None
        """Until then it is not looked at."""
        self._reader: Reader | None = None
        """While the index is read."""
        self._ends: dict[TopicPartition, int] | None = None
        self._there: dict[bytes, tuple[int, int]] = {}
        """Key → partition and hash of what was read last."""
        self._compared: Iterator[_Entry | None] | None = None
        """While it is compared."""
        self._wrong: list[_Entry] = []
        self._taken = 0

    def lead(self, homes: Container[str]) -> None:
        """Its writer leads these homes from now on: compare the index with what it knows of them.

        The log is open: nobody else writes here any more.
        """
        self.close()
        self._homes = homes
        if self._kept:
            self._begins_at = time.monotonic() + LATER_S

    def take(self, changes: Iterable[Change]) -> list[Record]:
        """Records for the next transaction, whose facts make these `changes`. One, then `committed`
        or none; after none `lead` follows, or the same again.
        """
        if not self._kept:
            return []
        self._look()
        self._taken = min(MANY, len(self._wrong))
        mended = [self._mended(entry) for entry in self._wrong[: self._taken]]
        return [*mended, *records(self._topic, self._parts.partitions, changes)]

    def committed(self) -> None:
        """What was taken stands there."""
        del self._wrong[: self._taken]
        self._taken = 0

    @property
    def level(self) -> bool:
        """True once it says what the folds say."""
        begun = self._begins_at is None and self._reader is None
        return begun and self._compared is None and not self._wrong

    def close(self) -> None:
        """Compare no more."""
        if self._reader is not None:
            self._reader.close()
        self._begins_at, self._reader, self._ends = None, None, None
        self._there, self._compared, self._wrong, self._taken = {}, None, [], 0

    # -- comparing ---------------------------------------------------------------------------

    def _look(self) -> None:
        """Read on, or compare on; never waits for records."""
        if self._begins_at is not None and time.monotonic() >= self._begins_at:
            self._begins_at = None
            self._reader = Reader(self._parts.bootstrap, f"index-{self._parts.origin}", wait_ms=50)
        if self._reader is not None:
            try:
                self._read(self._reader)
            except Unavailable:
                self.lead(self._homes)  # anew, later: a commit says it, if it lasts
        elif self._compared is not None:
            looked_at = [*islice(self._compared, LOOK)]
            self._wrong += filter(None, looked_at)
            if len(looked_at) < LOOK:
                self._there, self._compared = {}, None

    def _read(self, reader: Reader) -> None:
        if self._ends is None:
            starts = {(self._topic, p): 0 for p in range(self._parts.partitions)}
            self._ends = within(starts, reader.bounds(starts, ASK_S))
            reader.assign({at: starts[at] for at in self._ends})
        for raw in reader.batch(LOOK, 0.0):
            if raw.key is None:
                continue
            if raw.value is None:
                self._there.pop(raw.key, None)
            else:
                self._there[raw.key] = raw.partition, hash(raw.value)
        there = reader.positions(self._ends)
        if all(there[at] >= end for at, end in self._ends.items()):
            reader.close()
            self._reader, self._compared = None, self._differences()

    def _differences(self) -> Iterator[_Entry | None]:
        """What is not as the folds have it; None for each that is."""
        for task_id in list(self._folds.states["tasks"]):
            work = self._now(task_id)
            if work is None:
                continue
            key = work_key(work.miner_id, task_id)
            entry = _Entry(partition_of(work.miner_id, self._parts.partitions), key, task_id)
            there = self._there.pop(key, None)
            same = there == (entry.partition, hash(self._mended(entry).value))
            yield None if same else entry
        for key, (partition, _) in list(self._there.items()):
            yield _Entry(partition, key, key.partition(b"|")[2].decode(errors="replace"))

    def _now(self, task_id: str) -> AssignedTask | None:
        state = dict.get(self._folds.states["tasks"], task_id)
        return assigned(state) if state is not None and state.home in self._homes else None

    def _mended(self, entry: _Entry) -> Record:
        """The entry as it has to be now."""
        work = self._now(entry.task_id)
        if work is not None and work_key(work.miner_id, work.task_id) != entry.key:
            work = None
        return record(self._topic, entry.partition, entry.key, work)
