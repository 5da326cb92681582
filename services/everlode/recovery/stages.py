"""What a stage does to the new generation: restore its states, replay the tail of its facts.

Invariants: state records are written under the transactional id of the partition's projector, so a
killed run's leftovers cannot write after us; a restore that is done again writes the same states
again; once a replay has begun, nothing is restored again (a state topic must not go back); a gap in
`seq` is named and counted, never passed over. Shell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from everlode.adapters.kafka import Raw, Reader, Record
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres_next import NextGeneration
from everlode.avro.codec import encode_state, state_from_dict
from everlode.backup.container import DELETED, PARKED, read
from everlode.backup.manifest import CutPosition, Manifest
from everlode.errors import ContractError, IntegrityError
from everlode.events.stamp import millis_of
from everlode.log.learn import learner, taught
from everlode.projection.fold import Known, Outcome, Prefix
from everlode.projection.tables import FACTS_OF
from everlode.projector.bulk import catch_up
from everlode.projector.epochs import decided_epochs
from everlode.projector.worker import Home, Outside, PartitionWorker
from everlode.topics import Topology
from everlode.topics.names import fact_topic, state_topic
from everlode.topics.place import placed

MARGINS_MS = (15_000, 600_000)
"""The tail's beginning is looked for this long before the cut, then from the log's start."""
Place = tuple[str, int]
"""Topic and partition."""
BATCH = 2000
_T = TypeVar("_T")


class Target(NamedTuple):
    """The region that is recovered."""

    region: str
    origin: str
    bootstrap: str
    control_bootstrap: str
    conninfo: str
    topology: Topology
    staging: Path


@dataclass(slots=True)
class Replayed:
    """What a replay did and did not find."""

    folded: int = 0
    lost: list[str] = field(default_factory=list)
    """Missing facts by name: `topic/partition seq a..b`."""
    lost_count: int = 0
    lost_ms: int = 0
    """Span of time, in milliseconds, over the largest hole."""


class Stages:
    """Works on one generation of one region, from the staged objects of one manifest."""

    def __init__(self, target: Target, manifest: Manifest, generation: int) -> None:
        self._target, self._manifest, self._generation = target, manifest, generation
        self._codec = taught(target.bootstrap, target.topology.origins)
        self._learn = learner(target.bootstrap, target.topology.origins, "recovery")
        self._writers: dict[int, Writer] = {}

    def writer(self, partition: int) -> Writer:
        """The one writer of a partition number's states; taking it over is dear, so once."""
        found = self._writers.get(partition)
        if found is None:
            target = self._target
            found = Writer(
                target.bootstrap, f"projector.{target.region}.g{self._generation}.{partition}"
            )
            found.open()
            self._writers[partition] = found
        return found

    def close(self) -> None:
        """Leave: a projector takes the writers over."""
        for writer in self._writers.values():
            writer.abandon()
        self._writers.clear()

    def database(self) -> NextGeneration:
        """A connection to the generation. Raises: Unavailable."""
        return NextGeneration(self._target.conninfo, self._generation, "recovery")

    # -- restore -------------------------------------------------------------------------------

    def restore(self, states: str) -> int:
        """States to topic and table, deletions, positions, what waits. Idempotent.

        Returns how many states.

        Raises: IntegrityError; Unavailable.
        """
        db = self.database()
        try:
            db.clear(states)
            count = 0
            for partition in range(self._manifest.partitions):
                gone = list(self._deleted(states, partition))
                self._publish(states, partition, gone)
                count += db.load(states, self._states(states, partition))
                db.bury(states, partition, gone)
            facts = FACTS_OF.get(states, states)
            if states != "fraud":  # stands with the validations, whose topics it shares
                for partition, positions in self._positions(facts).items():
                    db.place(partition, positions)
                for partition in range(self._manifest.partitions):
                    db.park(partition, self._parked(facts, partition))
            db.reopen(o for o in self._manifest.opened if o[0].endswith(f".{facts}"))
        finally:
            db.close()
        return count

    def _publish(self, states: str, partition: int, gone: list[tuple[str, int, str]]) -> None:
        topic = state_topic(self._generation, states)

        def records() -> Iterator[Record]:
            for key, known in self._states(states, partition):
                if known.state is not None:
                    yield Record(topic, partition, key, encode_state(known.state), [])
            for key, _, _ in gone:
                yield Record(topic, partition, key, None, [])

        for batch in _batches(records(), BATCH):
            self.writer(partition).write(batch)

    def _staged(self, component: str, partition: int) -> Iterator[dict[str, Any]]:
        path = self._target.staging / f"{component}-{partition}.plain"
        with path.open("rb") as file:
            yield from read(file, path.name)

    def _states(self, states: str, partition: int) -> Iterator[tuple[str, Known]]:
        for value in self._staged(states, partition):
            try:
                state = state_from_dict(states, value)
            except ContractError as error:
                raise IntegrityError(f"{states}-{partition}: {error.message}") from None
            yield state.key, Known(state, state.version, "")

    def _deleted(self, states: str, partition: int) -> Iterator[tuple[str, int, str]]:
        for value in self._staged(DELETED, partition):
            if value["component"] == states:
                yield value["key"], value["version"], value["event_id"]

    def _parked(self, facts: str, partition: int) -> Iterator[tuple[str, int, bytes]]:
        for value in self._staged(PARKED, partition):
            if value["topic"].endswith(f".{facts}"):
                yield value["topic"], value["offset"], value["value"]

    # -- where the tail begins -----------------------------------------------------------------

    def _positions(self, facts: str) -> dict[int, dict[str, Prefix]]:
        """Partition → topic → where the tail begins in this cluster, of one component's facts."""
        ats = {
            (at.topic, at.partition): at
            for at in self._manifest.positions
            if at.topic.endswith(f".{facts}")
        }
        begins = {place: 0 for place, at in ats.items() if not at.seq}
        reader = Reader(self._target.bootstrap, "recovery-tail", wait_ms=50)
        try:
            for margin in (*MARGINS_MS, None):
                left = {place: at for place, at in ats.items() if place not in begins}
                if left:
                    begins |= self._after(reader, left, margin)
        finally:
            reader.close()
        found: dict[int, dict[str, Prefix]] = {p: {} for p in range(self._manifest.partitions)}
        for (topic, partition), at in ats.items():
            position = Prefix(at.seq, at.stamp, begins[topic, partition])
            found[partition][topic] = position
        return found

    def _after(
        self, reader: Reader, ats: Mapping[Place, CutPosition], margin_ms: int | None
    ) -> dict[Place, int]:
        """Offsets behind the last facts of the cut, read from so long before it.

        What stands there and is no fact is met by the replay, and told. Places of which that is
        not long enough are left out; with None, from the log's start, none is.
        """
        if margin_ms is None:
            starts = dict.fromkeys(ats, 0)
        else:
            since = {k: millis_of(at.stamp) - margin_ms for k, at in ats.items()}
            starts = reader.at_time(since)
        begins: dict[Place, int] = {}
        reached: set[Place] = set()
        """Places where nothing between the cut and what is read can be missing."""
        passed: set[Place] = set()
        """Places where the cut is behind."""
        for batch in reader.to_ends(starts, 120):
            for raw in batch:
                place = (raw.topic, raw.partition)
                if place in passed:
                    continue
                try:
                    seq = placed(self._codec, raw.topic, raw.key, raw.value).envelope.seq
                except ContractError:
                    continue
                if seq <= ats[place].seq + 1:
                    reached.add(place)
                if seq <= ats[place].seq:
                    begins[place] = raw.offset + 1
                else:
                    begins.setdefault(place, raw.offset)
                    passed.add(place)
        if margin_ms is None:
            return {place: begins.get(place, 0) for place in ats}
        return {place: begins[place] for place in reached}

    # -- replay --------------------------------------------------------------------------------

    def replay(self, states: str) -> Replayed:
        """Fold the facts after the cut that the region's log has. Resumes where it was killed.

        Raises: Unavailable; FencedOut: another recovery has taken over.
        """
        facts = FACTS_OF.get(states, states)
        target = self._target
        topics = [fact_topic(o, facts) for o in target.topology.origins]
        home = Home(target.region, target.bootstrap, target.conninfo, self._generation, "recovery")
        total = Replayed()
        with decided_epochs(target.control_bootstrap) as epochs:
            outside = Outside(self._learn, epochs)
            workers = {
                p: _Counting(PartitionWorker(home, p, topics, outside, self.writer(p)), total)
                for p in range(self._manifest.partitions)
            }
            try:
                catch_up(target.bootstrap, workers, topics, counter="replay")
                for worker in workers.values():
                    worker.apply((), "replay")  # what waits and need not any more
            finally:
                for worker in workers.values():
                    worker.close()
        self._holes(facts, total)
        return total

    def _holes(self, facts: str, total: Replayed) -> None:
        """What is missing, as noted in the generation itself: a killed run's findings count."""
        db = self.database()
        for topic, partition, expected, found in db.query(
            "select topic, part, expected, found from {g}.problems where kind = 'seq_gap'"
            " and topic like %s order by 1, 2, 3",
            (f"%.{facts}",),
        ):
            total.lost_count += max(0, found - expected)
            total.lost.append(f"{topic}/{partition} seq {expected}..{found - 1}")
        db.close()


class _Counting:
    """A partition's worker; notes what its batches folded, and what they found missing."""

    def __init__(self, worker: PartitionWorker, total: Replayed) -> None:
        self._worker, self._total = worker, total
        self.positions = worker.positions
        self.close = worker.close

    def apply(self, raws: Sequence[Raw], counter: str) -> Outcome:
        """As the worker does."""
        before = {t: p.stamp for t, p in self._worker.positions().items()}
        outcome = self._worker.apply(raws, counter)
        self._total.folded += outcome.folded
        for p in outcome.problems:
            if p.kind == "seq_gap":
                now = self._worker.positions()[p.topic].stamp
                span = millis_of(now) - millis_of(before[p.topic])
                self._total.lost_ms = max(self._total.lost_ms, span)
        return outcome


def _batches(items: Iterator[_T], size: int) -> Iterator[list[_T]]:
    batch: list[_T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
