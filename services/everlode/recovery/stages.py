"""What a stage does to the new generation: restores its states, and replays the tail (tail.py).

A component, from the staged objects of one manifest, in this order:
  1. its rows of an interrupted run are cleared;
  2. its states to the table and the state topic, partition number by partition number, and what
     was deleted to both; a state that cannot be stored is left out of both, kept as a dead letter
     and noted, and its key waits;
  3. positions where the tail begins in this cluster, facts that wait, fences.
Fraud's facts are on the validations' topics: their stage has the positions of both.

Invariants: state records are written under the transactional id of the partition's projector, so a
killed run's leftovers cannot write after us; a restore that is done again writes the same states
again; once a replay has begun, nothing is restored again (a state topic must not go back). Shell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any, TypeVar

from everlode.adapters.dead_letters import DeadLetters
from everlode.adapters.kafka import Raw, Record
from everlode.adapters.kafka_sender import Sender
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres_next import NextGeneration
from everlode.avro.codec import encode_state
from everlode.avro.plain import state_from_dict
from everlode.backup.container import DELETED, PARKED, read
from everlode.backup.manifest import Manifest
from everlode.errors import ContractError, IntegrityError
from everlode.events.catalogue import STATES
from everlode.log.learn import learner, taught
from everlode.projection.fold import Known, Prefix
from everlode.projection.halves import in_halves
from everlode.projection.tables import FACTS_OF, topic_of
from everlode.projector.epochs import Decided, decided_epochs
from everlode.recovery.planner import Replayed
from everlode.recovery.request import Target
from everlode.recovery.tail import Replay, beginnings
from everlode.telemetry.entries import RecordLeftOut
from everlode.telemetry.pace import Pace
from everlode.telemetry.sink import Sink, silent
from everlode.topics.names import state_topic
from everlode.topics.place import TopicPartition

BATCH = 2000
LETTER_S = 15.0
_T = TypeVar("_T")


class Stages:
    """Works on one generation of one region, from the staged objects of one manifest."""

    def __init__(
        self, target: Target, manifest: Manifest, generation: int, report: Sink = silent
    ) -> None:
        self._target, self._manifest, self._generation = target, manifest, generation
        self._report = report
        self._codec = taught(target.bootstrap, target.topology.origins)
        self._learn = learner(target.bootstrap, target.topology.origins, "recovery")
        self._writers: dict[int, Writer] = {}
        self._begins: dict[TopicPartition, int] | None = None
        self._following = ExitStack()
        """The control log, from the first replay on."""
        self._epochs: Decided | None = None

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
        self._following.close()
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
        facts = FACTS_OF.get(states, states)
        parts = range(self._manifest.partitions)
        records = sum(o.records for o in self._manifest.objects if o.component == states)
        pace = Pace(self._report, f"restore {states}", records)
        with closing(self.database()) as db:
            # 1. nothing of an interrupted run
            db.clear(states)
            # 2. states and deletions
            count = 0
            for partition in parts:
                self.writer(partition)  # a killed run writes no more
                gone = list(self._deleted(states, partition))
                left_out = self._load(db, states, partition, pace)
                count += self._publish(states, partition, gone, left_out)
                db.bury(states, partition, gone)
            # 3. where the tail begins, what waits, fences
            if states not in FACTS_OF:
                for partition, positions in self._positions(facts).items():
                    db.place(partition, positions)
                for partition in parts:
                    db.park(partition, self._parked(facts, partition))
            db.reopen(o for o in self._manifest.opened if o[0].endswith(f".{facts}"))
        return count

    def _load(self, db: NextGeneration, states: str, partition: int, pace: Pace) -> frozenset[str]:
        """Fill the table; returns the keys of what cannot be stored."""
        left_out: list[str] = []

        def refuse(batch: Sequence[tuple[int, tuple[str, Known]]], error: ContractError) -> int:
            for number, (key, known) in batch:
                self._leave_out(db, states, number, known, error)
                left_out.append(key)
            return 0

        for batch in _batches(enumerate(self._states(states, partition)), BATCH):
            for loaded in in_halves(
                batch, lambda part: db.load(states, [state for _, state in part]), refuse
            ):
                pace.more(loaded)
        return frozenset(left_out)

    def _leave_out(
        self, db: NextGeneration, states: str, number: int, known: Known, error: ContractError
    ) -> None:
        """Order (must): the letter is kept, then the state is noted as left out."""
        state = known.state
        if state is None:
            raise error  # only states are loaded
        topic, place = topic_of(states, state), -1 - number
        value, source = (
            encode_state(state),
            [("dlt-object", f"{states}-{state.partition}".encode())],
        )
        sender = Sender(self._target.bootstrap)
        letters = DeadLetters(sender, "projector")
        letters.add(Raw(topic, state.partition, place, state.key.encode(), value, source), error)
        letters.deliver(LETTER_S)
        db.leave_out(state, states, place)
        self._report(RecordLeftOut(topic, state.partition, place, error.message))

    def _publish(
        self, states: str, partition: int, gone: list[tuple[str, int, str]],
        left_out: frozenset[str],
    ) -> int:  # fmt: skip
        """The same states to their topic; returns how many."""
        topic = state_topic(self._generation, states)
        count = 0

        def records() -> Iterator[Record]:
            nonlocal count
            for key, known in self._states(states, partition):
                if known.state is not None and key not in left_out:
                    count += 1
                    yield Record(topic, partition, key, encode_state(known.state), [])
            for key, _, _ in gone:
                yield Record(topic, partition, key, None, [])

        for batch in _batches(records(), BATCH):
            self.writer(partition).write(batch)
        return count

    def _staged(
        self, component: str, partition: int, contract: str = ""
    ) -> Iterator[dict[str, Any]]:
        path = self._target.staging / f"{component}-{partition}.plain"
        with path.open("rb") as file:
            yield from read(file, path.name, contract)

    def _states(self, states: str, partition: int) -> Iterator[tuple[str, Known]]:
        for value in self._staged(states, partition, STATES[states].__name__):
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

    def _positions(self, facts: str) -> dict[int, dict[str, Prefix]]:
        """Partition → topic → where the tail begins in this cluster, of one component's facts."""
        ats = {
            (at.topic, at.partition): at
            for at in self._manifest.positions
            if at.topic.endswith(f".{facts}")
        }
        begins = self._beginnings()
        found: dict[int, dict[str, Prefix]] = {p: {} for p in range(self._manifest.partitions)}
        for (topic, partition), at in ats.items():
            found[partition][topic] = Prefix(at.seq, at.stamp, begins[topic, partition])
        return found

    def _beginnings(self) -> Mapping[TopicPartition, int]:
        """Of all components, looked for once: a broker of a busy region is slow to answer."""
        if self._begins is None:
            ats = {(at.topic, at.partition): at for at in self._manifest.positions}
            self._begins = beginnings(self._target.bootstrap, self._codec, ats)
        return self._begins

    # -- replay --------------------------------------------------------------------------------

    def replay(self, states: str) -> Replayed:
        """Fold the tail of a component's facts. Resumes where it was killed.

        Raises: Unavailable; FencedOut: another recovery has taken over.
        """
        if self._epochs is None:
            following = decided_epochs(self._target.control_bootstrap)
            self._epochs = self._following.enter_context(following)
        replay = Replay(
            self._target, self._generation, self._manifest.partitions, self._learn, self._epochs,
            self.writer, self._report,
        )  # fmt: skip
        return replay.run(states)


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    batch: list[_T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
