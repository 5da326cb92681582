"""Reading a snapshot: what stands in its topic, the newest of each key.

Committed records only: what a primary was writing when it was killed is not there. Shell.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from typing import NamedTuple

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
MARK_BACK = (64, 4096)
"""So many offsets before the end a partition's mark is looked for: it is written every 5 s."""


class Snapshot:
    """One fact topic's snapshot as it stands."""

    def __init__(self, codec: Codec, records: dict[tuple[int, bytes], bytes]) -> None:
        self._codec = codec
        self._entries: list[bytes] = []
        self.ends: dict[int, int] = {}
        """Partition → offset after the last record that was read."""
        self.keys = {key for _, key in records if key.startswith(ENTRY)}
        """Keys of the entries' records."""
        self.marks: dict[int, SnapshotMark] = {}
        """Partition → its mark; none where no snapshot was taken."""
        self.pages: dict[int, list[ArchivePage]] = defaultdict(list)
        self.tallies: dict[int, list[SnapshotTally]] = defaultdict(list)
        rings: list[SnapshotAnswers] = []
        for (partition, key), value in records.items():
            if key.startswith(ENTRY):
                self._entries.append(value)
                continue
            match decode_snapshot(codec, value):
                case SnapshotMark() as mark:
                    self.marks[partition] = mark
                case SnapshotAnswers() as answers:
                    rings.append(answers)
                case ArchivePage() as page:
                    self.pages[partition].append(page)
                case SnapshotTally() as tally:
                    self.tallies[partition].append(tally)
        rings.sort(key=lambda ring: ring.number)
        self.answers: list[AnsweredFact] = [fact for ring in rings for fact in ring.facts]
        """Facts of the last commands, oldest first."""

    def next_offset(self, partition: int) -> int:
        """Where the facts behind it begin; 0 where no snapshot was taken."""
        mark = self.marks.get(partition)
        return 0 if mark is None else mark.next_offset

    def entries(self) -> list[Alive]:
        """All aggregates that are alive, by the stamps of their last facts. Raises: ContractError.

        They are given away: a second call finds none.
        """
        found = []
        while self._entries:
            entry = decode_snapshot(self._codec, self._entries.pop())
            if isinstance(entry, SnapshotEntry) and entry.state is not None:
                state = self._codec.decode_state(entry.state)
                found.append(Alive(entry.component, entry.event_id, state))
        found.sort(key=lambda alive: alive.state.stamp)
        return found


class Alive(NamedTuple):
    """An aggregate that is alive, and its last fact."""

    component: str
    event_id: str
    state: State


def read_snapshot(bootstrap: str, origin: str, component: str, partitions: int) -> Snapshot:
    """Read a fact topic's snapshot to its end. Raises: Unavailable."""
    topic = snapshot_topic(origin, component)
    records: dict[tuple[int, bytes], bytes] = {}
    ends: dict[int, int] = {}
    with closing(Reader(bootstrap, f"snapshot-{component}-{origin}", wait_ms=50)) as reader:
        starts = {(topic, p): 0 for p in range(partitions)}
        for batch in reader.to_ends(starts, TIMEOUT_S, 5000):
            for raw in batch:
                at = raw.partition, raw.key or b""
                ends[raw.partition] = raw.offset + 1
                if raw.value is None:
                    records.pop(at, None)
                else:
                    records[at] = raw.value
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
