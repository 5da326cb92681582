"""Gathers what a cut is made of: rows of one moment, then the logs; in slices of the keys.

Steps (2) and (3) of the protocol in cut.py. Order (must): the moment before any topic; heads before
deletions, since what is deleted meanwhile is a deletion in either. What a partition number's topics
and rows hold is read once, and kept in files by slice: memory is one slice's. A broker of a busy
region is slow to answer, so ends are asked for once, of all partition numbers. Shell: decides
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

from everlode.adapters.kafka import Raw, Reader
from everlode.adapters.kafka_admin import last_written, missing_topics
from everlode.adapters.postgres import Projection
from everlode.avro.codec import Codec
from everlode.avro.heads import StateHead
from everlode.backup.asked import Source, ask, own_marks
from everlode.backup.cut import Slice
from everlode.backup.facts import Facts, Window, sift, with_facts
from everlode.backup.heads import NEW_GENERATION, Newest, foreign
from everlode.backup.manifest import Manifest
from everlode.backup.snapshot import Moment, Snapshot
from everlode.backup.spill import Slices, Spill
from everlode.backup.standing import Applied, Row, Standing
from everlode.backup.witnesses import as_logged, is_cut_off, require_positions
from everlode.errors import ContractError, IntegrityError
from everlode.events.catalogue import STATE_COMPONENTS
from everlode.events.stamp import millis_of
from everlode.projection.fold import Incoming, Key, Known, PartitionFold
from everlode.topics import fact_topics
from everlode.topics.names import state_topic
from everlode.topics.place import placed

STILL_S = 120.0
"""A topic of which nothing comes for so long does not answer; however long it all takes."""


class Gatherer:
    """Gathers one region, one partition number after the other; `close` it."""

    def __init__(
        self, source: Source, generation: int, codec: Codec, parent: Manifest | None = None
    ) -> None:
        """`codec` may know newer schemas. The moment is read, and held; then the logs' ends.

        Raises: Precondition; NotFound; IntegrityError: a state topic is not there, or a position
        is before that of the parent. Unavailable.
        """
        self.source, self.generation = source, generation
        self._codec = codec
        self._topics = fact_topics(source.topology)
        self._states = {state_topic(generation, c): c for c in STATE_COMPONENTS}
        with ExitStack() as opened, ThreadPoolExecutor(3, "gather") as beside:
            there, live = beside.submit(self._require_topics), beside.submit(self._projection)
            known = beside.submit(own_marks, source, codec)
            held = opened.enter_context(closing(self._projection()))
            self._live = opened.enter_context(closing(live.result()))
            there.result()
            # 1. the moment, before any topic
            self._snapshot = opened.enter_context(closing(Snapshot(held, self._topics)))
            self._reader = Reader(source.bootstrap, "backup", wait_ms=50)
            opened.callback(self._reader.close)
            require_positions(self.moment.applied, parent, generation)
            written = beside.submit(last_written, source.bootstrap, self.moment.applied)
            self.witnessed = ask(source, codec, self.moment, parent, known.result())
            self.written_ms = written.result()
            """(topic, partition) → when its last record was written."""
            self._opened = opened.pop_all()
        self._bounds: dict[tuple[str, int], tuple[int, int]] = {}
        """(topic, partition) → its begin and end, once they were asked for."""
        self._since: dict[int, dict[tuple[str, int], int]] = {}
        """Time → offsets of the first facts from it on."""

    @property
    def moment(self) -> Moment:
        """What the projector had done."""
        return self._snapshot.moment

    def close(self) -> None:
        """Leave."""
        self._opened.close()

    def partition(self, partition: int) -> GatheredPartition:
        """All of a partition number but its facts; `close` it. Raises: Unavailable."""
        now = self.moment
        parked = now.parked.get(partition, ())
        ends = {topic: self.witnessed.ends.get((topic, partition)) for topic in self._topics}
        applied = {
            topic: now.applied.get((topic, partition)) or Applied(topic, partition, 0, 0)
            for topic in self._topics
        }
        standing = Standing(
            partition,
            {topic: as_logged(at, ends[topic]) for topic, at in applied.items()},
            self.witnessed.openings.get(partition, {}),
            tuple(self.fact(*waits) for waits in parked),
            frozenset(key for kind, _, _, key in now.problems if kind == "unlawful"),
            frozenset(topic for topic, at in applied.items() if is_cut_off(at, ends[topic])),
        )
        # 2. heads, and then deletions
        return GatheredPartition(self, standing)

    def facts(self, standing: Standing, window: Window) -> Iterator[Incoming]:
        """Those from so long before T on that were applied. Raises: Unavailable."""
        # 3. facts, sifted as they come
        partition = standing.partition
        since_ms = max(0, millis_of(window.stamp) - window.back_ms)
        self._know_bounds(self._topics, partition)
        found = self._since.setdefault(since_ms, {})
        places = [(topic, partition) for topic in self._topics]
        if any(place not in found for place in places):
            everywhere = self._all_of(self._topics, partition)
            found |= self._reader.at_time(dict.fromkeys(everywhere, since_ms))
        starts = {place: found[place] for place in places}
        bounds = _up_to(standing.applied, {place: self._bounds[place] for place in places})
        for batch in self._reader.to_bounds(starts, bounds, STILL_S):
            for raw in batch:
                try:
                    fact = placed(self._codec, raw.topic, raw.key, raw.value)
                except ContractError:
                    continue  # the projector quarantined it
                yield Incoming(raw.topic, raw.offset, fact, raw.value or b"")

    def fact(self, topic: str, offset: int, value: bytes) -> Incoming:
        """One that was kept."""
        return Incoming(topic, offset, self._codec.decode_fact(value), value)

    def states(self, keys: Iterable[Key]) -> dict[Key, Known]:
        """As their rows have them at the moment. Raises: Unavailable; IntegrityError."""
        return self._snapshot.states(keys)

    def records(self, partition: int) -> Iterator[tuple[str, Raw]]:
        """(component, record) of all state topics, each in its order, to the ends.

        All topics at once: they wait for each other's records only. Raises: Unavailable.
        """
        self._know_bounds(self._states, partition)
        starts = {(topic, partition): 0 for topic in self._states}
        for batch in self._reader.to_bounds(starts, self._bounds, STILL_S):
            for raw in batch:
                yield self._states[raw.topic], raw

    def most(self, partition: int) -> dict[str, int]:
        """Component → how many keys it has at most. Raises: Unavailable."""
        self._know_bounds(self._states, partition)
        rows = self._snapshot.counts(partition)
        found = {}
        for topic, component in self._states.items():
            begin, end = self._bounds[topic, partition]
            found[component] = max(end - begin, rows[component])
        return found

    def rows(self, partition: int) -> Iterator[tuple[Key, Row]]:
        """Of the moment. Raises: Unavailable."""
        return self._snapshot.rows(partition)

    def deleted(self, partition: int) -> Iterator[tuple[Key, Known]]:
        """From the projection's rows of now: tombstones have no version, and are compacted away.

        Raises: Unavailable.
        """
        with self._live.at_one_moment(held=True):
            for component in STATE_COMPONENTS:
                for name, version, event_id in self._live.stream(
                    f"select key, version, event_id from {{g}}.{component}"
                    " where doc is null and part = %s",
                    (partition,),
                ):
                    yield (component, name), Known(None, version, event_id)

    def newest(self, component: str, partition: int) -> Newest:
        """What takes the records of some keys."""
        return Newest(
            component, self.moment.chosen.stamp,
            f"{state_topic(self.generation, component)}/{partition}", self._codec.decode_state,
        )  # fmt: skip

    def head(
        self, where: str, component: str, key: bytes | None, value: bytes | None
    ) -> tuple[str, StateHead | None]:
        """A state record's key and head. Raises: IntegrityError: it does not belong here."""
        try:
            if key is None:
                raise ContractError("the record has no key", code="null_key")
            name = key.decode(errors="replace")
            if value is None:
                return name, None
            head = self._codec.state_head(component, value)
            if head.key != name:
                raise ContractError(f"key {name!r} with the state of {head.key!r}")
        except ContractError as error:
            raise foreign(where, error) from None
        return name, head

    def _projection(self) -> Projection:
        return Projection(self.source.conninfo, self.generation, "backup")

    def _require_topics(self) -> None:
        """A topic that is gone is not one that is empty."""
        if lost := missing_topics(self.source.bootstrap, self._states):
            raise IntegrityError(
                f"{self.source.region}: state topic {lost[0]} is not there"
                f" ({len(lost)} of {len(self._states)} are missing)",
                code="topic_lost",
                hint=NEW_GENERATION,
            )

    def _all_of(self, topics: Iterable[str], partition: int) -> list[tuple[str, int]]:
        """These topics' partitions, of all partition numbers that there are."""
        numbers = {partition, *(p for _, p in self.moment.applied)}
        return [(topic, p) for p in sorted(numbers) for topic in topics]

    def _know_bounds(self, topics: Collection[str], partition: int) -> None:
        if any((topic, partition) not in self._bounds for topic in topics):
            self._bounds |= self._reader.bounds(self._all_of(topics, partition))


def _up_to(
    applied: Mapping[str, Applied], bounds: Mapping[tuple[str, int], tuple[int, int]]
) -> dict[tuple[str, int], tuple[int, int]]:
    """What was not applied at the moment is in no cut, however much it is."""
    return {
        (topic, partition): (begin, min(end, applied[topic].next_offset))
        for (topic, partition), (begin, end) in bounds.items()
    }


class GatheredPartition:
    """What was gathered of one partition number, in slices of its keys; `close` it."""

    def __init__(self, gatherer: Gatherer, standing: Standing) -> None:
        """Raises: Unavailable: also when there is no room."""
        self.standing = standing
        self._gatherer, self._partition = gatherer, standing.partition
        self.slices = Slices(gatherer.most(self._partition))
        with ExitStack() as opened:
            self._facts: Spill | None = None
            opened.callback(self._forget_facts)
            self._records, self._rows, self._gone = (
                opened.enter_context(closing(Spill(self.slices.count))) for _ in range(3)
            )
            self._read()
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Give its room back."""
        self._opened.close()

    def slice(self, number: int) -> Slice:
        """One slice's keys. Raises: IntegrityError: a state topic went back, or is damaged."""
        component = self.slices.component(number)
        newest = self._gatherer.newest(component, self._partition)
        for offset, key, value in self._records.items(number):
            name, head = self._gatherer.head(f"{newest.where}@{offset}", component, key, value)
            newest.take(offset, name, head)
        rows = {(component, k): Row(*values) for k, *values in self._rows.items(number)}
        gone = {(component, k): Known(None, *values) for k, *values in self._gone.items(number)}
        return Slice(newest.heads(), rows, gone)

    def facts(self, window: Window) -> Facts:
        """What a window of the logs shows of all keys; those before are forgotten.

        Raises: Unavailable.
        """
        self._forget_facts()
        kept = self._facts = Spill(self.slices.count)

        def keep(item: Incoming, inside: bool) -> None:
            for key in PartitionFold.keys([item]):
                found = (inside, item.topic, item.offset, item.value)
                kept.add(self.slices.of(key), found, 150 + len(item.value))

        return sift(self._gatherer.facts(self.standing, window), self.standing, window, keep)

    def facts_of(self, number: int, facts: Facts) -> Facts:
        """The same for one slice. Raises: Unavailable."""
        sides: tuple[list[Incoming], list[Incoming]] = ([], [])
        if self._facts is not None:
            for inside, *found in self._facts.items(number):
                sides[not inside].append(self._gatherer.fact(*found))
        return with_facts(facts, *sides)

    def _forget_facts(self) -> None:
        if self._facts is not None:
            self._facts.close()

    def _read(self) -> None:
        """Topics and rows at once: what a moment holds does not change meanwhile."""
        numbers = self.slices
        with ThreadPoolExecutor(1, "rows") as beside:
            rows = beside.submit(self._read_rows)
            for component, raw in self._gatherer.records(self._partition):
                key = (component, (raw.key or b"").decode(errors="replace"))
                item = (raw.offset, raw.key, raw.value)
                self._records.add(numbers.of(key), item, 100 + len(raw.value or b""))
            rows.result()
        for key, known in self._gatherer.deleted(self._partition):
            self._gone.add(numbers.of(key), (key[1], known.version, known.event_id), 150)

    def _read_rows(self) -> None:
        for key, row in self._gatherer.rows(self._partition):
            self._rows.add(self.slices.of(key), (key[1], *row), 150)
