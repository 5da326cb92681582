"""What a node looks at beside its own facts: another component's, of its home.

Begun from that component's snapshot, then its facts in order. What is in an entry may come again
as a fact; `observe` bears that. Shell.
"""

from __future__ import annotations

from functools import partial

from everlode.adapters.kafka import Raw, Reader
from everlode.avro.codec import Codec
from everlode.errors import ContractError
from everlode.log.facts import begun, lacking
from everlode.primary.component import Component
from everlode.primary.unexpected import attempt
from everlode.settings.endpoints import RegionParts
from everlode.snapshots.read import read_snapshot
from everlode.telemetry.entries import Undecided
from everlode.telemetry.sink import Sink, silent
from everlode.topics.place import TopicPartition, placed

FEW = 65_536
"""Bytes that what is only looked at comes in."""


class Seen:
    """Of one component's node. Not thread-safe; without anything to look at it does nothing."""

    def __init__(
        self,
        component: Component,
        parts: RegionParts,
        report: Sink = silent,
        *,
        prompt: Reader | None = None,
    ) -> None:
        self._component, self._parts, self._report = component, parts, report
        group = f"seen-{component.name}-{parts.region}"
        self._reader = Reader(parts.bootstrap, group, wait_ms=500, min_bytes=FEW, prompt=prompt)
        self._codec = Codec()
        self._next: dict[TopicPartition, int] = {}
        self._expected: dict[TopicPartition, int] = {}
        """Next `seq` of a partition whose beginning has gone, until its first record is read."""

    def start(self) -> None:
        """Take the snapshots over.

        Raises: Unavailable. IntegrityError: facts behind one are gone.
        """
        parts, starts = self._parts, dict[TopicPartition, int]()
        seqs: dict[TopicPartition, int] = {}
        topics = dict(zip(self._component.seen_topics(), self._component.sees, strict=True))
        for topic, name in topics.items():
            found = read_snapshot(parts.bootstrap, parts.origin, name, parts.partitions)
            for alive in found.entries():
                self._component.restore_seen(alive)
            for p in range(parts.partitions):
                mark = found.marks.get(p)
                starts[topic, p] = found.next_offset(p)
                seqs[topic, p] = mark.seq + 1 if mark else 1
        self._next = starts
        if not starts:
            return
        self._expected = {at: seqs[at] for at in begun(self._reader, starts, seqs)}
        self._reader.assign(starts)

    def look(self) -> None:
        """What can be had at once. Raises: IntegrityError: facts before it are gone."""
        if self._next:
            self._observe(self._reader.batch(2000, 0.0))

    def catch_up(self) -> None:
        """All that is there now. Raises: Unavailable. IntegrityError: facts before it are gone."""
        if self._next:
            for batch in self._reader.to_ends(self._next, 30, go_on=True):
                self._observe(batch)

    def _observe(self, batch: list[Raw]) -> None:
        wanted = self._component.looks_at
        for raw in batch:
            self._next[raw.topic, raw.partition] = raw.offset + 1
            expected = self._expected.pop((raw.topic, raw.partition), None)
            if expected is None and wanted and self._codec.type_name(raw.value) not in wanted:
                continue
            try:
                fact = placed(self._codec, raw.topic, raw.key, raw.value)
            except ContractError:
                continue  # its own fold quarantines it; a look needs no more
            if expected is not None and fact.envelope.seq > expected:
                where = f"{raw.topic}/{raw.partition}"
                raise lacking(where, expected, fact.envelope.seq - 1)
            if self._component.strays(fact):
                continue
            wrong = attempt(
                f"a look at {fact.envelope.event_id}", partial(self._component.observe, fact)
            )
            if wrong is not None:
                self._report(Undecided(wrong.letter.message))

    def close(self) -> None:
        """Leave."""
        self._reader.close()
