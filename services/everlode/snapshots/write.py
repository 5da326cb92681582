"""Writing a snapshot: records that go into the transactions of its one writer, with its facts.

What is taken is as it was before that transaction's facts. So a mark never speaks of facts that
are not committed yet, and whoever holds the topic's transactional id writes the snapshot, too: a
primary that was fenced changes it no more. Pure, but for what it looks up in the archive.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple, Protocol

from everlode.adapters.kafka import Record
from everlode.avro.codec import encode_state
from everlode.avro.snapshots import encode_snapshot
from everlode.errors import ContractError
from everlode.events.base import ScopeEpoch
from everlode.events.snapshots import (
    ANSWERS,
    ENTRY,
    MARK,
    PAGE,
    AnsweredFact,
    ArchivedSolution,
    HandedIn,
    ReadPosition,
    SnapshotAnswers,
    SnapshotEntry,
    SnapshotMark,
    SnapshotRecord,
    SnapshotTally,
)
from everlode.events.states import State, ValidationState
from everlode.snapshots.archive import Archive, Kept, archive_key, solution_key
from everlode.snapshots.dirty import Dirty, Key
from everlode.snapshots.past import Past
from everlode.state.ended import ended
from everlode.state.fraudrules import firsts, handed_in
from everlode.state.shape import FOLD_VERSION
from everlode.topics.names import snapshot_topic

AGE_S = 5.0
"""What has changed is written after this, as it is by then."""
MARK_S = 5.0
FEW, MANY = 300, 3_000
"""Entries in one transaction: beside facts, and without."""
CHUNK, CHUNKS = 500, 100
"""Answered facts in a slot of the ring, and its slots."""
LOOKS = 200
"""Ended aggregates that could not leave are looked at again, so many in a transaction."""


class Source(Protocol):
    """The folds that a snapshot is taken of."""

    dirty: Dirty
    past: Past
    may_leave: Callable[[State], bool]
    """Of what has ended: whether nobody is about to look for it."""

    def holds(self, key: Key) -> bool:
        """True for what is in memory."""

    def kept(self, key: Key) -> Kept:
        """An aggregate as it is now."""

    def evict(self, key: Key) -> None:
        """Forget it: it is in the archive."""


class LogPosition(NamedTuple):
    """Where the fact topic's writer is. By partition: next offset, last `seq`."""

    next_offsets: Sequence[int]
    seqs: Sequence[int]
    stamp: int
    epochs: Mapping[str, int]


def _key(kind: bytes, number: int) -> bytes:
    return kind + b"%d" % number


class _Taken(NamedTuple):
    """An entry under way, or a solution, which has no key."""

    partition: int
    key: Key | None
    name: bytes
    archived: int | None = None
    """Place of its record of the archive among those handed out."""
    before: State | None = None
    """What stands in the archive."""


class Checkpoint:
    """What is to be written of one fact topic's snapshot. One `take`, then `committed` or none."""

    def __init__(self, origin: str, component: str, source: Source, archive: Archive) -> None:
        self._topic = snapshot_topic(origin, component)
        self._source, self._archive = source, archive
        self._anew: Sequence[int] = ()
        """By partition: up to where all is written anew, because the fold is another one."""
        self.keys: set[bytes] = set()
        """Keys of the entries that are in the topic."""
        self.reads: dict[tuple[str, int], int] = {}
        """How far has been read, with all that is committed."""
        self._answers: deque[AnsweredFact] = deque(maxlen=CHUNK * CHUNKS)
        self._answers_number = 0
        self._mark_at = 0.0
        self._taken: list[_Taken] = []
        self._solutions: dict[tuple[int, str, str], tuple[HandedIn, ...]] = {}
        self._tallies: list[tuple[int, SnapshotTally]] = []
        self._full = 0
        self._waiting: OrderedDict[Key, int] = OrderedDict()
        """What has ended and may not leave yet → its partition."""

    def start(self, keys: set[bytes]) -> None:
        """Go on with what stands in the topic."""
        self.keys = keys
        self._answers.clear()
        self._mark_at = 0.0

    def noted(self, key: bytes, there: bool) -> None:
        """Another has written an entry under this key, or its tombstone."""
        if there:
            self.keys.add(key)
        else:
            self.keys.discard(key)

    def start_anew(self, ends: Sequence[int]) -> None:
        """Entries up to these offsets are another fold's until they are written again."""
        self._anew = ends

    def marked(self, marks: Mapping[int, SnapshotMark]) -> None:
        """These marks stand in the topic: what is before them need not be written."""
        for partition, mark in marks.items():
            self._source.dirty.trim(partition, mark.next_offset)
        ring = marks.get(0)
        if ring is not None:
            self._answers_number = ring.answers + 1  # what its slot holds is not complete
            self.reads.update({(r.topic, r.partition): r.next_offset for r in ring.reads})
        while self._answers:
            fact = self._answers[0]
            stands = marks.get(fact.partition)
            if stands is None or fact.offset >= stands.next_offset:
                return
            self._answers.popleft()

    def wait(self, key: Key, partition: int) -> None:
        """It has ended: archive it once it may leave."""
        self._waiting[key] = partition

    def answered(self, fact: AnsweredFact) -> None:
        """A command's fact stands in the log."""
        self._answers.append(fact)

    def behind(self, mono_s: float) -> bool:
        """True when so much waits that it is not left to transactions with facts."""
        waiting = islice(self._source.dirty.oldest(mono_s - AGE_S), FEW + 1)
        return sum(1 for _ in waiting) > FEW

    def mark_next(self) -> None:
        """Let the next `take` write marks, however lately the last ones were written."""
        self._mark_at = 0.0

    def take(
        self, mono_s: float, at: LogPosition, most: int = FEW, age_s: float = AGE_S
    ) -> list[Record]:
        """Records for the next transaction. `at` is where the log is before that transaction."""
        found: list[Record] = []
        self._taken, self._solutions, self._tallies, self._full = [], {}, [], 0
        # 1. what may leave by now
        self._leave(found, most)
        leaving = {taken.key for taken in self._taken}
        # 2. the oldest changes
        for partition, key in self._source.dirty.oldest(mono_s - age_s):
            if len(self._taken) >= most:
                break
            if key in leaving:
                continue
            try:
                self._entry(found, partition, key)
            except ContractError:
                continue  # no record has room for it: the mark stays before its facts
        # 3. marks now and then, as they are once these entries are there
        if mono_s >= self._mark_at:
            self._mark_at = mono_s + MARK_S
            self._marks(found, at)
        return found

    def _leave(self, found: list[Record], most: int) -> None:
        for _ in range(min(len(self._waiting), LOOKS, most)):
            key, partition = self._waiting.popitem(last=False)
            if self._source.holds(key):
                state = self._source.kept(key).state
                if state is None or not ended(state):
                    continue  # it has changed: that is written as a change
                self._waiting[key] = partition  # until it is committed
                if self._source.may_leave(state):
                    with suppress(ContractError):  # as in `take`
                        self._entry(found, partition, key)

    def _entry(self, found: list[Record], partition: int, key: Key) -> None:
        kept = self._source.kept(key)
        state = None if kept.state is None else encode_state(kept.state)
        entry = SnapshotEntry(*key, kept.version, kept.event_id, state)
        name = archive_key(*key).encode()
        live = ENTRY + name
        if kept.state is not None and not (
            ended(kept.state) and self._source.may_leave(kept.state)
        ):
            found.append(self._record(partition, live, entry))
            self._taken.append(_Taken(partition, key, live))
            return
        validates = isinstance(kept.state, ValidationState)
        before = self._archive.find(*key) if validates else None
        stands = before.state if before is not None else None
        self._archived(found, _Taken(partition, key, name, before=stands), entry)
        if isinstance(kept.state, ValidationState):
            self._solution(found, partition, kept.state)
        if live in self.keys:
            found.append(Record(self._topic, partition, live, None, []))

    def _archived(self, found: list[Record], taken: _Taken, record: SnapshotRecord) -> None:
        value = encode_snapshot(record)
        self._taken.append(taken._replace(archived=len(found)))
        found.append(Record(self._archive.topic, taken.partition, taken.name, value, []))

    def _solution(self, found: list[Record], partition: int, state: ValidationState) -> None:
        """Who handed it in first, once this one is archived."""
        one = handed_in(state)
        at = partition, state.home, one.solution_sha256
        known = self._solutions.get(at) or self._archive.firsts_in(*at)
        first = firsts((*known, one))
        if first != known:
            self._solutions[at] = first
            name = solution_key(*at[1:]).encode()
            self._archived(found, _Taken(partition, None, name), ArchivedSolution(*at[1:], first))

    def _marks(self, found: list[Record], at: LogPosition) -> None:
        self._ring(found)
        for partition, (next_offset, seq) in enumerate(zip(at.next_offsets, at.seqs, strict=True)):
            index = self._archive.indexes[partition]
            pages, gone = index.fold_up()
            found += [self._record(partition, _key(PAGE, page.start), page) for page in pages]
            found += [Record(self._topic, partition, _key(PAGE, s), None, []) for s in gone]
            for key, tally in self._source.past.due(partition, index.paged) if pages else ():
                found.append(self._record(partition, key, tally))
                self._tallies.append((partition, tally))
            mark = self._mark(partition, next_offset, seq, at)
            found.append(self._record(partition, _key(MARK, partition), mark))

    def _mark(self, partition: int, next_offset: int, seq: int, at: LogPosition) -> SnapshotMark:
        first = self._first(partition)
        if first is not None:
            next_offset, seq = first
        reads = [ReadPosition(t, p, o) for (t, p), o in sorted(self.reads.items())]
        return SnapshotMark(
            seq, next_offset, at.stamp, self._version(),
            self._answers_number + self._full,
            tuple(ScopeEpoch(scope=s, epoch=e) for s, e in sorted(at.epochs.items())),
            tuple(reads if partition == 0 else ()),
        )  # fmt: skip

    def _version(self) -> int:
        """That of the fold, once no entry of another fold is left."""
        firsts = [self._first(partition) for partition in range(len(self._anew))]
        if any(f is not None and f[0] < to for f, to in zip(firsts, self._anew, strict=True)):
            return 0
        self._anew = ()
        return FOLD_VERSION

    def _first(self, partition: int) -> tuple[int, int] | None:
        """Offset of the first change that these entries leave, and the `seq` before it."""
        taken = {t.key for t in self._taken if t.partition == partition and t.key is not None}
        first = self._source.dirty.first(partition, taken)
        return None if first is None else (first.offset, first.seq - 1)

    def _ring(self, found: list[Record]) -> None:
        """The slots that have changed; the last one is written again until it is full."""
        number, facts = self._answers_number, list(self._answers)
        chunks = [facts[i : i + CHUNK] for i in range(0, len(facts), CHUNK)]
        for ahead, chunk in enumerate(chunks):
            answers = SnapshotAnswers(number + ahead, tuple(chunk))
            found.append(self._record(0, _key(ANSWERS, answers.number % CHUNKS), answers))
        self._full = len(facts) // CHUNK

    def _record(self, partition: int, key: bytes, record: SnapshotRecord) -> Record:
        return Record(self._topic, partition, key, encode_snapshot(record), [])

    def committed(self, offsets: Sequence[int]) -> None:
        """The records that were taken last stand at these offsets."""
        for partition, tally in self._tallies:
            self._source.past.written(partition, tally)
        for taken in self._taken:
            self._stands(taken, offsets)
        self._taken, self._tallies = [], []
        for _ in range(self._full * CHUNK):
            self._answers.popleft()
        self._answers_number += self._full
        self._full = 0

    def _stands(self, taken: _Taken, offsets: Sequence[int]) -> None:
        partition, key, name, archived, before = taken
        if key is not None:
            self._source.dirty.written(partition, key)
            self._waiting.pop(key, None)
        if archived is None:
            self.keys.add(name)
            state = self._source.kept(key).state if key is not None else None
            if key is not None and state is not None and ended(state):
                self.wait(key, partition)
            return
        self._archive.added(partition, name, offsets[archived])
        if key is None:
            return
        self.keys.discard(ENTRY + name)
        state = self._source.kept(key).state
        place = partition, offsets[archived]
        self._source.past.archived(place, state, before, held=True)
        self._source.evict(key)
