"""Gathers what a cut is made of: PostgreSQL at one moment, then the logs, as frozen values.

Steps (1) to (3) of the protocol in cut.py. Order (must): the moment before any topic; heads before
deletions, since what is deleted meanwhile is a deletion in either; the ends of state topics before
those of facts, so that every fact that a state is made of is met. Facts are sifted as they are
read: memory is one partition number's. A broker of a busy region is slow to answer, so ends are
asked for once, of all partition numbers. Shell: decides nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from everlode.adapters.kafka import Raw, Reader
from everlode.adapters.postgres import Projection
from everlode.avro.codec import Codec
from everlode.avro.heads import StateHead
from everlode.backup.cut import (
    Applied,
    Chosen,
    Facts,
    Fence,
    Gathered,
    choose,
    may_need,
    sift,
    wanted,
)
from everlode.backup.heads import Heads, Newest, foreign
from everlode.errors import ContractError
from everlode.events.catalogue import STATE_COMPONENTS
from everlode.events.control import BackupMade
from everlode.events.stamp import millis_of
from everlode.projection.fold import Incoming, Key, Known
from everlode.topics import Topology
from everlode.topics.names import state_topic
from everlode.topics.place import placed

READ_S = 120.0


class Source(NamedTuple):
    """The region that is backed up."""

    region: str
    bootstrap: str
    conninfo: str
    topology: Topology
    noted: BackupMade | None = None
    """Its newest backup, as the control log notes it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What the projector had done at one moment, of all partition numbers."""

    chosen: Chosen
    applied: Mapping[tuple[str, int], Applied]
    problems: tuple[tuple[str, str, int, str], ...]
    """(kind, topic, partition, key) of what the projector could not fold."""
    opened: Mapping[int, Mapping[Fence, int]]
    parked: Mapping[int, Sequence[tuple[str, int, bytes]]]
    """Topic, offset and bytes of facts that wait."""
    unpublished: Mapping[int, Mapping[Key, int]]


def moment(db: Projection, topics: Sequence[str]) -> Moment:
    """Read it, of these topics, in one transaction; T is chosen.

    Raises: Precondition: nothing is applied. Unavailable. NotFound: there is no such generation.
    """
    opened: defaultdict[int, dict[Fence, int]] = defaultdict(dict)
    parked: defaultdict[int, list[tuple[str, int, bytes]]] = defaultdict(list)
    with db.at_one_moment():
        positions = db.query("select topic, part, seq, stamp from {g}.positions")
        problems = db.query(
            "select kind, topic, part, coalesce(key, '') from {g}.problems"
            " order by 1, 2, 3, at_offset"
        )
        for topic, partition, scope, epoch in db.query(
            "select topic, part, scope, epoch from {g}.opened"
        ):
            opened[partition][topic, scope] = epoch
        for topic, partition, offset, value in db.query(
            "select topic, part, at_offset, value from {g}.parked order by topic, at_offset"
        ):
            parked[partition].append((topic, offset, bytes(value)))
        applied = [Applied(*row) for row in positions if row[0] in topics]
        unpublished = {
            partition: {(c, key): version for c, key, version, _ in db.unpublished(partition)}
            for partition in {a.partition for a in applied}
        }
    return Moment(
        choose(applied), {(a.topic, a.partition): a for a in applied},
        tuple((*row,) for row in problems), opened, parked, unpublished,
    )  # fmt: skip


class Gatherer:
    """Gathers one region, one partition number after the other; `close` it."""

    def __init__(
        self, bootstrap: str, projection: Projection, topics: Sequence[str], codec: Codec
    ) -> None:
        """`topics`: all fact topics; `codec`: may know newer schemas. Reads the moment.

        Raises: Precondition; NotFound; Unavailable.
        """
        self._db, self._topics, self._codec = projection, topics, codec
        # 1. the moment, before any topic
        self.moment = moment(projection, topics)
        self._reader = Reader(bootstrap, "backup", wait_ms=50)
        self._states = {state_topic(projection.generation, c): c for c in STATE_COMPONENTS}
        self._bounds: dict[tuple[str, int], tuple[int, int]] = {}
        """(topic, partition) → its begin and end, once they were asked for."""
        self._since: dict[int, dict[tuple[str, int], int]] = {}
        """Time → offsets of the first facts from it on."""

    def close(self) -> None:
        """Leave."""
        self._reader.close()

    def partition(self, partition: int) -> Gathered:
        """All of a partition number but its facts. Raises: IntegrityError; Unavailable."""
        now = self.moment
        parked = now.parked.get(partition, ())
        # 2. heads, and then deletions
        heads = self._heads(partition)
        return Gathered(
            partition,
            {
                topic: now.applied.get((topic, partition)) or Applied(topic, partition, 0, 0)
                for topic in self._topics
            },
            now.opened.get(partition, {}),
            tuple(Incoming(t, at, self._codec.decode_fact(v), v) for t, at, v in parked),
            now.unpublished.get(partition, {}),
            frozenset(key for kind, _, _, key in now.problems if kind == "unlawful"),
            heads,
            self._deleted(partition),
        )

    def facts(self, part: Gathered, back_ms: int) -> Facts:
        """The facts from `back_ms` before T to the ends. Raises: Unavailable."""
        # 3. facts, sifted as they come
        stamp = self.moment.chosen.stamp
        since_ms = max(0, millis_of(stamp) - back_ms)
        return sift(self._read_facts(part, since_ms), stamp, part, back_ms)

    def _all_of(self, topics: Iterable[str], partition: int) -> list[tuple[str, int]]:
        """These topics' partitions, of all partition numbers that there are."""
        numbers = {partition, *(p for _, p in self.moment.applied)}
        return [(topic, p) for p in sorted(numbers) for topic in topics]

    def _know_bounds(self, topics: Collection[str], partition: int) -> None:
        if any((topic, partition) not in self._bounds for topic in topics):
            self._bounds |= self._reader.bounds(self._all_of(topics, partition))

    def _heads(self, partition: int) -> Heads:
        """All state topics at once: they wait for each other's records only."""
        self._know_bounds(self._states, partition)
        found = {
            topic: Newest(
                component, self.moment.chosen.stamp, f"{topic}/{partition}",
                self._codec.decode_state,
            )
            for topic, component in self._states.items()
        }  # fmt: skip
        starts = {(topic, partition): 0 for topic in self._states}
        for batch in self._reader.to_bounds(starts, self._bounds, READ_S):
            for raw in batch:
                try:
                    name, head = self._record(self._states[raw.topic], raw)
                except ContractError as error:
                    raise foreign(f"{raw.topic}/{partition}@{raw.offset}", error) from None
                found[raw.topic].take(raw.offset, name, head)
        states: dict[Key, Known] = {}
        jumps: dict[Key, int] = {}
        for one in found.values():
            heads = one.heads()
            states.update(heads.states)
            jumps.update(heads.jumps)
        return Heads(states, jumps)

    def _record(self, component: str, raw: Raw) -> tuple[str, StateHead | None]:
        """A state record's key and head. Raises: ContractError: it does not belong here."""
        if raw.key is None:
            raise ContractError("the record has no key", code="null_key")
        name = raw.key.decode(errors="replace")
        if raw.value is None:
            return name, None
        head = self._codec.state_head(component, raw.value)
        if head.key != name:
            raise ContractError(f"key {name!r} with the state of {head.key!r}")
        return name, head

    def _deleted(self, partition: int) -> dict[Key, Known]:
        """From the projection's rows: tombstones carry no version, and are compacted away."""
        return {
            (component, name): Known(None, version, event_id)
            for component in STATE_COMPONENTS
            for name, version, event_id in self._db.query(
                f"select key, version, event_id from {{g}}.{component}"
                " where doc is null and part = %s",
                (partition,),
            )
        }

    def _read_facts(self, part: Gathered, since_ms: int) -> Iterator[Incoming]:
        """Those that the cut may need."""
        partition, stamp, lacking = part.partition, self.moment.chosen.stamp, wanted(part)
        self._know_bounds(self._topics, partition)
        found = self._since.setdefault(since_ms, {})
        places = [(topic, partition) for topic in self._topics]
        if any(place not in found for place in places):
            everywhere = self._all_of(self._topics, partition)
            found |= self._reader.at_time(dict.fromkeys(everywhere, since_ms))
        starts = {place: found[place] for place in places}
        for batch in self._reader.to_bounds(starts, self._bounds, READ_S):
            for raw in batch:
                try:
                    head = self._codec.fact_head(raw.value)
                    if not may_need(raw.topic, head, stamp, part, lacking):
                        continue
                    fact = placed(self._codec, raw.topic, raw.key, raw.value)
                except ContractError:
                    continue  # the projector quarantined it
                yield Incoming(raw.topic, raw.offset, fact, raw.value or b"")
