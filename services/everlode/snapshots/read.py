"""Reading a snapshot: what stands in its topic, the newest of each key.

Committed records only: what a primary was writing when it was killed is not there. Shell.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from sys import intern
from typing import Any, NamedTuple

from everlode.adapters.kafka import Reader
from everlode.adapters.kafka_admin import missing_topics
from everlode.avro.codec import Codec
from everlode.avro.snapshots import decode_snapshot
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.snapshots import (
    ENTRY,
    MARK,
    AnsweredFact,
    ArchivePage,
    SnapshotAnswers,
    SnapshotEntry,
    SnapshotMark,
    SnapshotTally,
)
from everlode.events.states import State
from everlode.topics.names import fact_topic, snapshot_topic
from everlode.topics.place import TopicPartition

TIMEOUT_S = 600.0
COMMON = frozenset({
    "origin", "status", "home", "task_type", "client_id", "manager_node", "operator_id",
    "specialties", "gpu_model", "cpu_milli", "memory_mib",
})  # fmt: skip
"""Fields of states that have few values; all of them may be keys of a dict."""
MARK_BACK = (64, 4096)
"""So many offsets before the end a partition's mark is looked for: it is written every 5 s."""


class Snapshot:
    """One fact topic's snapshot as it stands."""

    def __init__(self, codec: Codec, records: dict[int, dict[bytes, bytes]]) -> None:
        """`records` by partition and key; those of entries are let go of as they are decoded."""
        self._codec = codec
        self._records = records
        self.ends: dict[int, int] = {}
        """Partition → offset after the last record that was read."""
        self.marks: dict[int, SnapshotMark] = {}
        """Partition → its mark; none where no snapshot was taken."""
        self.pages: dict[int, list[ArchivePage]] = defaultdict(list)
        self.tallies: dict[int, list[SnapshotTally]] = defaultdict(list)
        self._rings: list[tuple[int, bytes]] = []
        """Number and record of each slot of answers: decoded, all of them are large."""
        others = [(p, k) for p, of in records.items() for k in of if not k.startswith(ENTRY)]
        for partition, key in others:
            value = records[partition].pop(key)
            match decode_snapshot(codec, value):
                case SnapshotMark() as mark:
                    self.marks[partition] = mark
                case SnapshotAnswers() as answers:
                    self._rings.append((answers.number, value))
                case ArchivePage() as page:
                    self.pages[partition].append(page)
                case SnapshotTally() as tally:
                    self.tallies[partition].append(tally)
        self._rings.sort()

    def next_offset(self, partition: int) -> int:
        """Where the facts behind it begin; 0 where no snapshot was taken."""
        mark = self.marks.get(partition)
        return 0 if mark is None else mark.next_offset

    def answers(self) -> Iterator[AnsweredFact]:
        """Facts of the last commands, oldest first; a slot of them at a time is in memory."""
        for _, value in self._rings:
            ring = decode_snapshot(self._codec, value)
            if isinstance(ring, SnapshotAnswers):
                for fact in ring.facts:
                    yield fact._replace(event_type=intern(fact.event_type))

    def keys(self) -> set[bytes]:
        """Keys of the entries' records, as long as these are not given away."""
        return {key for of in self._records.values() for key in of}

    def entries(self) -> list[Alive]:
        """All aggregates that are alive, by the stamps of their last facts. Raises: ContractError.

        They are given away: a second call finds none.
        """
        found = []
        shared = Shared()
        for value in self._given():
            entry = decode_snapshot(self._codec, value)
            if isinstance(entry, SnapshotEntry) and entry.state is not None:
                state = shared.of(self._codec.decode_state(entry.state))
                found.append(Alive(intern(entry.component), entry.event_id, state))
        found.sort(key=lambda alive: alive.state.stamp)
        return found

    def _given(self) -> Iterator[bytes]:
        while self._records:
            _, records = self._records.popitem()
            while records:
                yield records.popitem()[1]


class Shared:
    """One of each value that many aggregates have: decoding gives each of them its own."""

    def __init__(self) -> None:
        self._one: dict[object, object] = {}
        self._fields: dict[type[State], list[int]] = {}

    def of(self, state: State) -> State:
        """An equal state, whose common values it shares with those before."""
        kind = type(state)
        fields = self._fields.get(kind)
        if fields is None:
            fields = [at for at, name in enumerate(kind._fields) if name in COMMON]
            self._fields[kind] = fields
        values: list[Any] = list(state)
        for at in fields:
            value = values[at]
            values[at] = self._one.setdefault(value, value)
        return kind._make(values)


class Alive(NamedTuple):
    """An aggregate that is alive, and its last fact."""

    component: str
    event_id: str
    state: State


def read_snapshot(bootstrap: str, origin: str, component: str, partitions: int) -> Snapshot:
    """Read a fact topic's snapshot to its end. Raises: Unavailable."""
    topic = snapshot_topic(origin, component)
    records: dict[int, dict[bytes, bytes]] = {p: {} for p in range(partitions)}
    ends: dict[int, int] = {}
    with closing(Reader(bootstrap, f"snapshot-{component}-{origin}", wait_ms=50)) as reader:
        starts = {(topic, p): 0 for p in range(partitions)}
        for batch in reader.to_ends(starts, TIMEOUT_S, 5000):
            for raw in batch:
                ends[raw.partition] = raw.offset + 1
                if raw.value is None:
                    records[raw.partition].pop(raw.key or b"", None)
                else:
                    records[raw.partition][raw.key or b""] = raw.value
    found = Snapshot(Codec(), records)
    found.ends = ends
    return found


def marks_of(
    bootstrap: str, codec: Codec, origin: str, partitions: int
) -> dict[TopicPartition, SnapshotMark]:
    """Place in an origin's fact topics → its writer's newest mark, by its home's cluster.

    Without those that stand further before the end than is looked, or were never written. Raises:
    Unavailable.
    """
    facts = {snapshot_topic(origin, c): fact_topic(origin, c) for c in FACT_COMPONENTS}
    there = facts.keys() - set(missing_topics(bootstrap, facts))
    found: dict[TopicPartition, SnapshotMark] = {}
    with closing(Reader(bootstrap, f"marks-{origin}", wait_ms=50)) as reader:
        bounds = reader.bounds([(topic, p) for topic in sorted(there) for p in range(partitions)])
        for back in MARK_BACK:
            left = {
                (topic, p): max(begin, end - back)
                for (topic, p), (begin, end) in bounds.items()
                if end > begin and (facts[topic], p) not in found
            }
            for batch in reader.to_bounds(left, bounds, TIMEOUT_S) if left else ():
                for raw in batch:
                    if raw.value is not None and (raw.key or b"").startswith(MARK):
                        mark = decode_snapshot(codec, raw.value)
                        if isinstance(mark, SnapshotMark):
                            found[facts[raw.topic], raw.partition] = mark
    return found
