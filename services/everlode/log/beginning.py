"""The beginning of a fact log that is gone, out of another region's copy of it.

      copy in us     seq 1 ............ 100 101 ......... 200 201 ...
      eu's snapshot  ─────────────────► 100
      eu's log                                                201 ......... 320
                                            └── folded ──┘ ─► eu's snapshot up to 200

Facts cannot be put before what stands in a log, so what lacks goes where a beginning is kept: into
the snapshot, by the same folds, under the log's own transactional id. Nothing is written into the
log, so `seq`, versions and stamps go on. Where the log was emptied, nothing at home says how far it
went: the longest copy of all regions does. What a copy brings is written piece by piece; a repeat
goes on behind it. A repeated command's answer gives the place where the log begins today for a fact
that no longer stands there. Shell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

from everlode.adapters.kafka import Reader
from everlode.adapters.kafka_writer import Writer
from everlode.avro.codec import Codec
from everlode.errors import NotFound, Refusal
from everlode.events.barriers import EpochOpened
from everlode.events.base import Fact, ScopeEpoch
from everlode.events.snapshots import SnapshotMark
from everlode.log.copied import STILL_S, copied
from everlode.log.ends import ends_of
from everlode.log.facts import FactLog, LoggedFact, writer_id
from everlode.log.folds import Folds
from everlode.log.memory import Memory
from everlode.settings.endpoints import RegionParts
from everlode.snapshots.write import MANY
from everlode.state.shape import FOLD_VERSION
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink, silent
from everlode.topics.place import TopicPartition, placed

TOLD = 50_000
"""Facts between two words of progress."""


class Gap(NamedTuple):
    """Facts of one partition that neither the log nor its snapshot has."""

    partition: int
    first: int
    """`seq` of the first of them."""
    last: int | None
    """Of the last one; None: the log was emptied, and nothing there says it."""
    begins: int
    """Offset at which the log begins today."""


class Filled(NamedTuple):
    """What lacked in one partition, and is in the snapshot now."""

    partition: int
    first: int
    last: int
    emptied: bool
    """The log does not say how far it went; no region's copy goes further."""


class Copies(NamedTuple):
    """Where else the log is."""

    source: str
    """The region whose copy is read."""
    bootstraps: Mapping[str, str]
    """Other region → bootstrap."""


def gaps(log: FactLog, bootstrap: str) -> list[Gap]:
    """What lacks between a log and the marks that it was resumed by. Raises: Unavailable."""
    ats = {(log.topic, p): offset for p, offset in enumerate(log.next_offsets)}
    found = []
    for at, (begin, end) in sorted(log.prompt.bounds(ats).items()):
        wanted = log.seqs[at[1]] + 1
        first = _first(bootstrap, at, begin) if ats[at] < begin < end else None
        if first is not None and first > wanted:
            found.append(Gap(at[1], wanted, first - 1, begin))
        elif first is None and begin > ats[at]:
            found.append(Gap(at[1], wanted, None, begin))
    return found


def _first(bootstrap: str, at: TopicPartition, begin: int) -> int | None:
    """`seq` of the first fact that stands there."""
    codec = Codec()
    with closing(Reader(bootstrap, f"beginning-{at[0]}", wait_ms=50)) as reader:
        for batch in reader.to_ends({at: begin}, STILL_S, 1):
            for raw in batch:
                return placed(codec, raw.topic, raw.key, raw.value).envelope.seq
    return None


def fill(
    folds: Folds,
    parts: RegionParts,
    component: str,
    copies: Copies,
    report: Sink = silent,
) -> list[Filled]:
    """Fold what lacks of a home's log out of another region's copy; returns what is in.

    `folds` are those of the component that writes the log, and empty. Nothing is returned, and
    nothing written, where nothing lacks. Whoever leads the log's scopes is fenced, and opens it
    again. Idempotent: a repeat after an interruption goes on.
    Raises: NotFound: `copy_lacks`, the copy does not have all of it either; what it has is in.
    Refusal: `longer_copy`: another region's goes further, where the log was emptied.
    IntegrityError: a fact does not follow from those before it. Unavailable.
    """
    log = FactLog(parts.bootstrap, parts.origin, component, parts.partitions, folds.fold)
    memory = Memory(folds, log, parts)
    with closing(log), closing(memory):
        memory.start()
        memory.catch_up()
        lacks = gaps(log, parts.bootstrap)
        upto = {gap.partition: _last(log.topic, gap, copies) for gap in lacks}
        if not lacks:
            return []
        filling = _Filling(folds, log, memory, lacks, upto)
        filling.open(parts.bootstrap, component)
        try:
            filling.read(copies.bootstraps[copies.source], report)
        finally:
            filling.write(0)
    return [Filled(g.partition, g.first, upto[g.partition], g.last is None) for g in lacks]


def _last(topic: str, gap: Gap, copies: Copies) -> int:
    """`seq` up to which the copy is folded."""
    if gap.last is not None:
        return gap.last
    at, codec = (topic, gap.partition), Codec()
    ends = {
        region: ends_of(boot, codec, [at])[at].seq for region, boot in copies.bootstraps.items()
    }
    source, longest = copies.source, max(ends, key=ends.__getitem__)
    if ends[longest] > ends[source]:
        raise Refusal(
            f"{topic}/{gap.partition}: the copy in {source} goes to seq {ends[source]}, that in"
            f" {longest} to {ends[longest]}",
            code="longer_copy",
            hint=f"take that of {longest}",
        )
    return max(ends[source], gap.first - 1)


class _Filling:
    """The snapshot of a log, while a copy's facts are folded into it."""

    def __init__(
        self, folds: Folds, log: FactLog, memory: Memory, lacks: Sequence[Gap], upto: dict[int, int]
    ) -> None:
        self._folds, self._log, self._memory, self._upto = folds, log, memory, upto
        self._gaps = {gap.partition: gap for gap in lacks}
        self._wanted = {gap.partition: gap.first for gap in lacks}
        """Partition → next `seq`."""
        self._stamps: dict[int, int] = {}
        self._epochs: dict[str, int] = {}

    def open(self, bootstrap: str, component: str) -> None:
        """Whoever was the log's writer is none any more."""
        self._writer = Writer(bootstrap, writer_id(component, self._log.origin))
        self._writer.open()

    def read(self, bootstrap: str, report: Sink) -> None:
        """Fold the copy from each gap's first to its last; what has piled up is written."""
        topic = self._log.topic
        last = {(topic, p): seq - 1 for p, seq in self._wanted.items()}
        upto = {(topic, p): seq for p, seq in self._upto.items()}
        facts = copied(bootstrap, f"filling-{topic}", last, upto)
        for count, (_, logged) in enumerate(facts, 1):
            self._fold(logged.fact, logged.partition)
            if len(self._folds.dirty) > MANY:
                self.write(MANY)
            if count % TOLD == 0:
                report(Note("beginning", f"{topic}: {count} facts are in"))
        for partition in self._left():
            raise self._short(partition, self._upto[partition])

    def _left(self) -> list[int]:
        return [p for p, seq in self._wanted.items() if seq <= self._upto[p]]

    def _fold(self, fact: Fact, partition: int) -> None:
        seq = fact.envelope.seq
        if seq != self._wanted[partition]:
            raise self._short(partition, seq - 1)
        # as if it stood where the log begins: until it is written, the log is read from there
        self._folds.fold(LoggedFact(fact, partition, self._gaps[partition].begins))
        self._wanted[partition], self._stamps[partition] = seq + 1, fact.envelope.stamp
        if isinstance(fact.data, EpochOpened):
            for opened in fact.data.scopes:
                known = self._epochs.get(opened.scope, 0)
                self._epochs[opened.scope] = max(known, opened.epoch)

    def _short(self, partition: int, last: int) -> NotFound:
        first = self._wanted[partition]
        return NotFound(
            f"{self._log.topic}/{partition}: the copy does not have seq {first} to {last} either",
            code="copy_lacks",
            hint="what it has is in the snapshot: go on with the copy in another region",
        )

    def write(self, most: int) -> None:
        """Write until at most `most` changed aggregates wait; with 0, the marks at last."""
        self._log.resume({p: self._mark(p) for p in self._gaps})
        while len(self._folds.dirty) > most:
            self._piece()
        if not most:
            self._piece()

    def _mark(self, partition: int) -> SnapshotMark:
        """Where its snapshot has come to."""
        stamp = self._stamps.get(partition, self._log.clock.last)
        epochs = tuple(ScopeEpoch(scope=s, epoch=e) for s, e in self._epochs.items())
        seq, begins = self._wanted[partition] - 1, self._gaps[partition].begins
        return SnapshotMark(seq, begins, stamp, FOLD_VERSION, 0, epochs, ())

    def _piece(self) -> None:
        records = self._memory.rest(marks=True)
        self._memory.committed(self._writer.write(records), {})
