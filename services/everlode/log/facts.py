"""The fact topic of one component and origin, as its one writer holds it.

Opening it fences the writer before, aborts what that left open, and reads every partition to its
end, so that `seq`, `stamp` and the folds go on from what is really there. Appended means
committed; after an OutcomeUnknown the log must be opened anew. A record that appears while it is
open and that its writer did not write is foreign: the writer stops. Reading begins where a snapshot
ends (`resume`), else at the log's beginning; a log that lacks what comes next is not read. Whatever
fails, the reader is left where the folds are, and reads on. Shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from everlode.adapters.kafka import Raw, Reader, Record
from everlode.adapters.kafka_writer import Writer
from everlode.avro.cloudevents import Headers, event_headers
from everlode.avro.codec import Codec, encode_fact
from everlode.errors import ContractError, FencedOut, IntegrityError
from everlode.events.barriers import EpochOpened
from everlode.events.base import Envelope, Event, Fact
from everlode.events.health import ForeignWrite
from everlode.events.snapshots import SnapshotMark
from everlode.events.stamp import HybridClock
from everlode.topics.names import fact_topic, region_of, split_fact_topic
from everlode.topics.partition import partition_of
from everlode.topics.place import TopicPartition, placed

KEY = 1024
"""Characters of a foreign record's key that are told."""


NewFact = tuple[int, Envelope, Event]
"""Partition, envelope with its `seq`, event: a fact or mark to append."""


class LoggedFact(NamedTuple):
    """A fact, and where it stands in its topic."""

    fact: Fact
    partition: int
    offset: int


class ForeignRecord(IntegrityError):
    """A record that the topic's one writer did not write; `found` is the event that tells it."""

    default_code = "foreign_write"

    def __init__(self, found: ForeignWrite) -> None:
        self.place = f"{found.topic}/{found.partition}@{found.foreign_offset}"
        super().__init__(
            f"{self.place}: its one writer did not write it",
            hint="somebody else writes into this topic: find out who before going on",
        )
        self.found = found


def unwritable(facts: Iterable[NewFact]) -> list[tuple[str, str]]:
    """(aggregate, command) of the facts that have no bytes: they are too large, as a rule."""
    found = []
    for _, envelope, data in facts:
        try:
            encode_fact(envelope, data)
        except ContractError:
            found.append((envelope.aggregate_id, envelope.command_id or ""))
    return found


def lacking(where: str, first: int, last: int | None) -> IntegrityError:
    """The error of a log whose beginning has gone: facts from `seq` first to last, if known.

    `where`: its topic, or a partition of it: eu.1.tasks/0.
    """
    what = f"seq {first} to {last}" if last is not None else f"everything from seq {first} on"
    origin, component = split_fact_topic(where.partition("/")[0])
    return IntegrityError(
        f"{where}: {what} is gone, and no snapshot covers it",
        code="beginning_lost",
        hint="facts were removed before they were in a snapshot. Get them from another region's "
        f"copy: everlode recover beginning {component} --region {region_of(origin)} --from OTHER",
    )


def begun(
    reader: Reader, starts: Mapping[TopicPartition, int], seqs: Mapping[TopicPartition, int]
) -> set[TopicPartition]:
    """Partitions that lack offsets from `starts` on; their first record shows whether facts are.

    `seqs`: the next `seq` of each. Raises: IntegrityError: one was emptied. Unavailable.
    """
    found = set()
    for at, (begin, end) in reader.bounds(starts).items():
        if begin > starts[at]:
            if begin >= end:
                raise lacking(f"{at[0]}/{at[1]}", seqs[at], None)
            found.add(at)
    return found


def writer_id(component: str, origin: str) -> str:
    """The transactional id of the one writer of an origin's facts of a component."""
    return f"{component}.{origin}"


class FactLog:
    """Facts of one component of one origin. Not thread-safe.

    `folded(placed)` is called for each record that is read, in order within a partition.
    """

    def __init__(
        self,
        bootstrap: str,
        origin: str,
        component: str,
        partitions: int,
        folded: Callable[[LoggedFact], object],
        *,
        wait_ms: int = 500,
    ) -> None:
        self.topic = fact_topic(origin, component)
        self.origin = origin
        self.partitions = partitions
        self.clock = HybridClock()
        self.seqs = [0] * partitions
        self.epochs: dict[str, int] = {}
        """Scope → highest epoch that was opened in any partition."""
        self._stamps = [0] * partitions
        """Of the last record of each partition that was read or written."""
        self._held: dict[str, int] = {}
        """Scope → epoch in which it is written for, since `open`."""
        self._mine: set[tuple[int, int]] = set()
        self._bootstrap = bootstrap
        self._transactional_id = writer_id(component, origin)
        self._folded = folded
        self._codec = Codec()
        self._writer: Writer | None = None
        group = f"writer-{component}-{origin}"
        self.prompt = Reader(bootstrap, group)
        """Asks, and catches up; others of this thread may ask it too."""
        self._reader = Reader(
            bootstrap, group, wait_ms=wait_ms, min_bytes=65_536, prompt=self.prompt
        )
        self._next: dict[TopicPartition, int] = {(self.topic, p): 0 for p in range(partitions)}
        self.carried: Callable[[Envelope], Headers] | None = None
        """Further headers of a fact, while somebody follows where its cause has been."""
        self._begun = False
        self._read_from: set[int] = set()
        """Partitions of which a record was read."""

    def resume(self, marks: Mapping[int, SnapshotMark]) -> None:
        """Read on from the marks of a snapshot, by partition; before anything was read."""
        for partition, mark in marks.items():
            self._next[self.topic, partition] = mark.next_offset
            self.seqs[partition] = mark.seq
            self.clock.observe(mark.stamp)
            self._stamps[partition] = mark.stamp
            self._opened(mark)

    def ends(self) -> list[int]:
        """Offset after the last committed record of each partition. Raises: Unavailable."""
        found = self.prompt.ends(self._next)
        return [found[self.topic, p] for p in range(self.partitions)]

    def is_whole(self) -> bool:
        """True while every partition has its first record. Raises: Unavailable."""
        return not any(self.prompt.beginnings(self._next).values())

    def _begin(self) -> None:
        """Raises: IntegrityError: a partition was emptied of what comes next. Unavailable."""
        begun(self.prompt, self._next, {at: self.seqs[at[1]] + 1 for at in self._next})
        self._begun = True

    @property
    def next_offsets(self) -> list[int]:
        """Offset of the next record of each partition, as far as it is known here."""
        return [self._next[self.topic, p] for p in range(self.partitions)]

    @property
    def read_stamp(self) -> int:
        """Stamp up to which all partitions were read, or written; 0: nothing of one. Any thread.

        A writer's barriers come to each partition each second, so it rises while one leads.
        """
        return min(self._stamps)

    def follow(self, timeout_s: float, most: int = 2000) -> int:
        """Fold what others have appended; returns how many records. Raises: IntegrityError."""
        if not self._begun:
            self._begin()
            self._reader.assign(self._next)  # not before: it fetches ahead from there
        batch = self._reader.batch(most, timeout_s)
        self._fold_all(batch)
        return len(batch)

    def open(self, held: Mapping[str, int], timeout_s: float = 60) -> None:
        """Become the one writer, for the scopes that are `held`, each with its epoch.

        The first of them names the writer. Nobody else can commit after the fence, so what is read
        then decides who is late; one who can be seen to be late before fences nobody. Raises:
        FencedOut: a later epoch of one was opened here; the caller must not write. Unavailable.
        IntegrityError: a partition holds what is not a fact.
        """
        # 1. who is known to be late fences nobody
        self.abandon()
        self._mine.clear()
        self._held = dict(held)
        self._read_on(timeout_s)
        # 2. fence
        self._writer = Writer(self._bootstrap, self._transactional_id)
        self._writer.open()
        # 3. what is there now is all that others have written
        self._read_on(timeout_s)

    def read_to_ends(self, still_s: float) -> None:
        """Fold all that is there now. Raises: Unavailable. IntegrityError."""
        if not self._begun:
            self._begin()
        for batch in self._reader.to_ends(self._next, still_s, go_on=True):
            self._fold_all(batch)

    def _read_on(self, timeout_s: float) -> None:
        self.read_to_ends(timeout_s)
        for scope, epoch in self._held.items():
            if self.epochs.get(scope, 0) > epoch:
                self.abandon()
                raise FencedOut(f"{scope}: epoch {self.epochs[scope]} is open, {epoch} is over")

    def watch(self, most: int = 5000) -> None:
        """Look at what has been appended since `open`; never waits.

        Raises: FencedOut: a later epoch of a scope that is held is open. ForeignRecord: a record is
        neither ours nor a successor's.
        """
        for raw in self._reader.others(most, self._mine):
            try:
                envelope = self._codec.decode_fact(raw.value).envelope
            except ContractError:
                envelope = None
            if envelope and envelope.epoch > self._held.get(envelope.scope, envelope.epoch):
                raise FencedOut(f"{envelope.scope}: epoch {envelope.epoch} is open")
            scope, epoch = next(iter(self._held.items()))
            raise ForeignRecord(
                ForeignWrite(
                    topic=raw.topic,
                    partition=raw.partition,
                    foreign_offset=raw.offset,
                    foreign_key=(raw.key or b"").decode(errors="replace")[:KEY],
                    foreign_event_id=envelope.event_id if envelope else "",
                    scope_name=scope,
                    held_epoch=epoch,
                )
            )

    def _fold_all(self, batch: Sequence[Raw]) -> None:
        """All, or as far as it goes: the rest is read again."""
        try:
            for raw in batch:
                self._fold(raw)
        except BaseException:
            self._reader.assign(self._next)
            raise

    def _fold(self, raw: Raw) -> None:
        if raw.offset < self._next[raw.topic, raw.partition]:
            return
        where = f"{raw.topic}/{raw.partition}@{raw.offset}"
        try:
            fact = placed(self._codec, raw.topic, raw.key, raw.value)
        except ContractError as error:
            raise IntegrityError(
                f"{where}: {error.message}",
                code="foreign_record",
                hint="somebody else wrote into a fact topic; find out who",
            ) from None
        last, seq = self.seqs[raw.partition], fact.envelope.seq
        if seq > last + 1 and raw.partition not in self._read_from:
            raise lacking(f"{raw.topic}/{raw.partition}", last + 1, seq - 1)
        if seq != last + 1:
            raise IntegrityError(
                f"{where}: seq {seq} follows {last}",
                code="seq_gap",
                hint="facts are missing, or somebody else writes here: find out before going on",
            )
        self._folded(LoggedFact(fact, raw.partition, raw.offset))
        # it counts once it is folded: one that could not be now is read again
        self._next[raw.topic, raw.partition] = raw.offset + 1
        self._read_from.add(raw.partition)
        self.seqs[raw.partition] = seq
        self.clock.observe(fact.envelope.stamp)
        self._stamps[raw.partition] = fact.envelope.stamp
        if isinstance(fact.data, EpochOpened):
            self._opened(fact.data)

    def _opened(self, by: EpochOpened | SnapshotMark) -> None:
        scopes = by.scopes if isinstance(by, EpochOpened) else by.epochs
        for opened in scopes:
            self.epochs[opened.scope] = max(self.epochs.get(opened.scope, 0), opened.epoch)

    def partition_of(self, key: str) -> int:
        """Partition of an aggregate."""
        return partition_of(key, self.partitions)

    def append(
        self,
        facts: Sequence[NewFact],
        read: dict[TopicPartition, int] | None = None,
        group: Any = None,
        beside: Sequence[Record] = (),
    ) -> list[int]:
        """Write facts in one transaction; returns their offsets, in order, then those of `beside`.

        `read` becomes the group's committed offsets with them, and `beside` are records of other
        topics of this writer. The written facts are not folded here: the writer knows them.
        Raises: FencedOut; OutcomeUnknown: open anew. ContractError: a fact cannot be written (see
        `unwritable`); nothing is.
        """
        if self._writer is None:
            raise IntegrityError("the fact log is not open")
        records = [
            Record(
                self.topic,
                partition,
                envelope.aggregate_id,
                encode_fact(envelope, data),
                self._headers(envelope, data),
            )
            for partition, envelope, data in facts
        ]
        offsets = self._writer.write([*records, *beside], read, group)
        for (partition, envelope, _), offset in zip(facts, offsets[: len(facts)], strict=True):
            self._next[self.topic, partition] = offset + 1  # both rise within a partition
            self._mine.add((partition, offset))
            self.seqs[partition] = envelope.seq
            self.clock.observe(envelope.stamp)
            self._stamps[partition] = envelope.stamp
        for _, _, data in facts:
            if isinstance(data, EpochOpened):
                self._opened(data)
        return offsets

    def _headers(self, envelope: Envelope, data: Event) -> Headers:
        found = event_headers(envelope, type(data).__name__)
        return found if self.carried is None else [*found, *self.carried(envelope)]

    def next_stamp(self, wall_ms: int, cause: int = 0) -> int:
        """The next stamp, above that of the cause. Raises: Refusal: clock skew.

        Whoever writes has seen to it that the wall clock is right enough: see `StampClock`.
        """
        return self.clock.next(wall_ms, cause)

    def abandon(self) -> None:
        """Throw the producer away; whatever it held may or may not be there."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
            self.clock.forget()  # what was written after all is read, and observed
            self._reader.assign(self._next)  # what `watch` has read was not folded

    def close(self) -> None:
        """Leave."""
        self.abandon()
        self._reader.close()
        self.prompt.close()
