"""What a stage does to the new generation: restore its states, replay the tail of its facts.

Invariants: state records are written under the transactional id of the partition's projector, so a
killed run's leftovers cannot write after us; a restore that is done again writes the same states
again; once a replay has begun, nothing is restored again (a state topic must not go back); a gap in
`seq` is named and counted, never passed over. Shell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from everlode.adapters.kafka import Raw, Reader, Record, Writer
from everlode.adapters.postgres import Projection
from everlode.avro.codec import Codec, encode_state, state_from_dict
from everlode.backup.container import DELETED, read
from everlode.backup.manifest import CutPosition, Manifest
from everlode.errors import ContractError, IntegrityError
from everlode.events.stamp import millis_of
from everlode.projection.fold import Known, Position
from everlode.projection.tables import FACTS_OF
from everlode.projector.learn import learner
from everlode.projector.worker import Home, PartitionWorker
from everlode.topics import Topology
from everlode.topics.names import fact_topic, state_topic

MARGINS_MS = (15_000, 600_000)
"""The tail's beginning is looked for this long before the cut, then from the log's start."""
REPLAY = 10_000
"""Facts folded at once: the more, the more of one key end in one row and one state."""
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
        self._codec = Codec()

    def database(self) -> Projection:
        """A connection to the generation. Raises: Unavailable."""
        return Projection(self._target.conninfo, self._generation, "recovery")

    # -- restore -------------------------------------------------------------------------------

    def restore(self, states: str) -> int:
        """States to topic and table, deletions, positions. Returns how many. Idempotent.

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
                if states != "fraud":  # stands with the validations, whose topics it shares
                    db.place(partition, self._positions(states, partition))
            facts = FACTS_OF.get(states, states)
            db.reopen(o for o in self._manifest.opened if o[0].endswith(f".{facts}"))
        finally:
            db.close()
        return count

    def _publish(self, states: str, partition: int, gone: list[tuple[str, int, str]]) -> None:
        writer = Writer(
            self._target.bootstrap,
            f"projector.{self._target.region}.g{self._generation}.{partition}",
        )
        writer.open()
        topic = state_topic(self._generation, states)

        def records() -> Iterator[Record]:
            for key, known in self._states(states, partition):
                if known.state is not None:
                    yield Record(topic, partition, key, encode_state(known.state), [])
            for key, _, _ in gone:
                yield Record(topic, partition, key, None, [])

        for batch in _batches(records(), BATCH):
            writer.write(batch)
        writer.abandon()

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

    # -- where the tail begins -----------------------------------------------------------------

    def _positions(self, states: str, partition: int) -> dict[str, Position]:
        suffix = f".{FACTS_OF.get(states, states)}"
        reader = Reader(self._target.bootstrap, "recovery-tail", wait_ms=50)
        try:
            return {
                at.topic: Position(at.seq, at.stamp, self._tail(reader, at))
                for at in self._manifest.positions
                if at.partition == partition and at.topic.endswith(suffix)
            }
        finally:
            reader.close()

    def _tail(self, reader: Reader, at: CutPosition) -> int:
        """Offset, in this cluster, of the first fact after the cut's `seq`."""
        place = (at.topic, at.partition)
        if not at.seq:
            return 0
        for margin in MARGINS_MS:
            since = max(0, millis_of(at.stamp) - margin)
            start = reader.at_time([place], since)[place]
            found, reaches = self._after(reader, place, start, at.seq)
            if reaches:
                return found
        return self._after(reader, place, 0, at.seq)[0]

    def _after(
        self, reader: Reader, place: tuple[str, int], start: int, seq: int
    ) -> tuple[int, bool]:
        """(offset of the first fact above `seq`, whether nothing between can be missing)."""
        end = reader.ends([place])[place]
        reader.assign({place: start})
        first = True
        if start < end:
            for batch in reader.until({place: end}, 60):
                for raw in batch:
                    try:
                        found = self._codec.decode_fact(raw.value).envelope.seq
                    except ContractError:
                        continue
                    if found > seq:
                        return raw.offset, not first or found == seq + 1
                    first = False
        return end, not first

    # -- replay --------------------------------------------------------------------------------

    def replay(self, states: str) -> Replayed:
        """Fold the facts after the cut that the region's log has. Resumes where it was killed.

        Raises: Unavailable; FencedOut: another recovery has taken over.
        """
        facts = FACTS_OF.get(states, states)
        target = self._target
        topics = [fact_topic(o, facts) for o in target.topology.origins]
        home = Home(target.region, target.bootstrap, target.conninfo, self._generation, "recovery")
        learn = learner(target.bootstrap, target.topology.origins, "recovery")
        total = Replayed()
        for partition in range(self._manifest.partitions):
            worker = PartitionWorker(home, partition, topics, learn)
            reader = Reader(target.bootstrap, "recovery-replay", wait_ms=50)
            try:
                places = {(t, partition): worker.positions()[t].next_offset for t in topics}
                ends = {k: e for k, e in reader.ends(places).items() if e > places[k]}
                reader.assign({k: places[k] for k in ends})
                for batch in reader.until(ends, 300, REPLAY):
                    self._apply(worker, batch, total)
            finally:
                reader.close()
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

    def _apply(self, worker: PartitionWorker, batch: list[Raw], total: Replayed) -> None:
        before = {t: p.stamp for t, p in worker.positions().items()}
        outcome = worker.apply(batch, "replay")
        total.folded += outcome.folded
        for p in outcome.problems:
            if p.kind != "seq_gap":
                continue
            span = millis_of(worker.positions()[p.topic].stamp) - millis_of(before[p.topic])
            total.lost_ms = max(total.lost_ms, span)


def _batches(items: Iterator[_T], size: int) -> Iterator[list[_T]]:
    batch: list[_T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
