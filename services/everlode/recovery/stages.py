"""What a stage does to the new generation: restores its states, and replays the tail (replay.py).

A component, from the staged objects of one manifest, in this order:
  1. its states to the table and the state topic, partition number by partition number, and what
     was deleted to both; a state that cannot be stored is left out of both, kept as a dead letter
     and noted, and its key waits;
  2. positions where the tail begins in this cluster, facts that wait, fences.
Fraud's facts are on the validations' topics: their stage has the positions of both.

Killed within 1, it goes on where it was, since the order is always the same: the table holds the
first so many states (whole batches, and what was left out), a counter says how many records the
topic surely has. What is done again is at most the batch whose count was not noted yet.

Invariants: state records are written under the transactional id of the partition's projector, so a
killed run's leftovers cannot write after us; a state that is written again is the same one; once a
replay has begun, nothing is restored again (a state topic must not go back). Shell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from everlode.adapters.dead_letters import DeadLetters
from everlode.adapters.kafka import Raw, Record
from everlode.adapters.kafka_sender import Sender
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres_next import NextGeneration, places_of
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
from everlode.projector.epochs import DecidedEpochs, decided_epochs
from everlode.recovery.evidence import Evidence, ask
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.planner import Replayed
from everlode.recovery.replay import Replay, Work
from everlode.recovery.request import Target
from everlode.recovery.tail import Tail, beginnings
from everlode.telemetry.entries import RecordLeftOut
from everlode.telemetry.pace import Pace
from everlode.telemetry.sink import Sink, silent
from everlode.topics.names import state_topic
from everlode.topics.place import TopicPartition

BATCH = 2000
LETTER_S = 15.0
_T = TypeVar("_T")


class Restored(NamedTuple):
    """How many states are in the table, and where the log is not the one that the cut was made of.

    A fork is known by a stamp that the cut has otherwise.
    """

    records: int
    forks: list[TopicPartition]
    dangling: int = 0
    """References that hold for nothing: so the backup has them."""


class Stages:
    """Works on one generation of one region, from the staged objects of one manifest."""

    def __init__(
        self, target: Target, manifest: Manifest, generation: int, journal: RecoveryJournal,
        report: Sink = silent,
    ) -> None:  # fmt: skip
        self._target, self._manifest, self._generation = target, manifest, generation
        self._journal = journal
        self._report = report
        self.codec = taught(target.bootstrap, target.topology.origins)
        self._learn = learner(target.bootstrap, target.topology.origins, "recovery")
        self._writers: dict[int, Writer] = {}
        self._db: NextGeneration | None = None
        self._begins: Tail | None = None
        self._known: Evidence | None = None
        """How far the logs reached, by what others know of them."""
        self._following = ExitStack()
        """The control log, from the first replay on."""
        self._epochs: DecidedEpochs | None = None

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
        if self._db is not None:
            self._db.close()
            self._db = None
        for writer in self._writers.values():
            writer.abandon()
        self._writers.clear()

    def database(self) -> NextGeneration:
        """The generation, over one connection until `close`: a busy database is slow to connect.

        Raises: Unavailable.
        """
        if self._db is None:
            self._db = NextGeneration(self._target.conninfo, self._generation, "recovery")
        return self._db

    # -- restore -------------------------------------------------------------------------------

    def restore(self, states: str) -> Restored:
        """States to topic and table, deletions, positions, what waits. Goes on where it was killed.

        Raises: IntegrityError; Unavailable.
        """
        facts = FACTS_OF.get(states, states)
        parts = range(self._manifest.partitions)
        records = sum(o.records for o in self._manifest.objects if o.component == states)
        pace = Pace(self._report, f"restore {states}", records)
        forks: list[TopicPartition] = []
        db = self.database()
        # 1. states and deletions
        for partition in parts:
            self.writer(partition)  # a killed run writes no more
            gone = list(self._deleted(states, partition))
            self._load(db, states, partition, pace)
            self._publish(db, states, partition, gone)
            db.bury(states, partition, gone)
        # 2. where the tail begins, what waits, fences
        if states not in FACTS_OF:
            tail = self._tail()
            forks = sorted(at for at in tail.forks if at[0].endswith(f".{facts}"))
            for partition, positions in self._positions(facts).items():
                db.place(partition, positions)
            for partition in parts:
                db.park(partition, self._parked(facts, partition))
        db.reopen(o for o in self._manifest.opened if o[0].endswith(f".{facts}"))
        return Restored(sum(db.loaded(states, p) for p in parts), forks)

    def _load(self, db: NextGeneration, states: str, partition: int, pace: Pace) -> None:
        """Fill the table from where it is filled to."""

        def refuse(batch: Sequence[tuple[int, tuple[str, Known]]], error: ContractError) -> int:
            for number, (_, known) in batch:
                self._leave_out(db, states, number, known, error)
            return 0

        there = db.loaded(states, partition) + len(db.left_out(states, partition))
        pace.more(there)
        left = islice(enumerate(self._states(states, partition)), there, None)
        todo = ((number, self._state(states, partition, value)) for number, value in left)
        for batch in _batches(todo, BATCH):
            for loaded in in_halves(
                batch, lambda part: db.load(states, [state for _, state in part]), refuse
            ):
                pace.more(loaded)

    def _leave_out(
        self, db: NextGeneration, states: str, number: int, known: Known, error: ContractError
    ) -> None:
        """Order (must): the letter is kept, then the state is noted as left out."""
        state = known.state
        if state is None:
            raise error  # only states are loaded
        topic, place = topic_of(states, state), places_of(states)[1] - number
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
        self, db: NextGeneration, states: str, partition: int, gone: list[tuple[str, int, str]]
    ) -> None:
        """The same states to their topic, and tombstones, from where it is filled to."""
        topic, counter = state_topic(self._generation, states), f"published {states}/{partition}"
        first, left_out = places_of(states)[1], db.left_out(states, partition)

        def records(there: int) -> Iterator[Record]:
            for number, value in enumerate(self._states(states, partition)):
                if first - number in left_out:
                    continue
                if there:
                    there -= 1
                    continue
                key, known = self._state(states, partition, value)
                if known.state is not None:
                    yield Record(topic, partition, key, encode_state(known.state), [])
            for key, _, _ in gone[there:]:
                yield Record(topic, partition, key, None, [])

        done = db.counted(counter)
        for batch in _batches(records(done), BATCH):
            self.writer(partition).put(batch)
            done += len(batch)
            db.count(counter, done)

    def _staged(
        self, component: str, partition: int, contract: str = ""
    ) -> Iterator[dict[str, Any]]:
        path = self._target.staging / f"{component}-{partition}.plain"
        with path.open("rb") as file:
            yield from read(file, path.name, contract)

    def _states(self, states: str, partition: int) -> Iterator[dict[str, Any]]:
        """As plain values: what is there already costs a resumed recovery little."""
        return self._staged(states, partition, STATES[states].__name__)

    @staticmethod
    def _state(states: str, partition: int, value: dict[str, Any]) -> tuple[str, Known]:
        try:
            state = state_from_dict(states, value)
        except ContractError as error:
            raise IntegrityError(f"{states}-{partition}: {error.message}") from None
        return state.key, Known(state, state.version, "")

    def _deleted(self, states: str, partition: int) -> Iterator[tuple[str, int, str]]:
        for value in self._staged(DELETED, partition):
            if value["component"] == states:
                yield value["key"], value["version"], value["event_id"]

    def _parked(self, facts: str, partition: int) -> Iterator[tuple[str, int, bytes]]:
        for value in self._staged(PARKED, partition):
            if value["topic"].endswith(f".{facts}"):
                yield value["topic"], value["offset"], value["value"]

    def waited(self, facts: str) -> Iterator[tuple[str, int, int, bytes]]:
        """(topic, partition, offset, fact) of what the backup holds as waiting."""
        for partition in range(self._manifest.partitions):
            for topic, offset, value in self._parked(facts, partition):
                yield topic, partition, offset, value

    def expected(self, states: str) -> int:
        """How many aggregates the generation must know: the backup's, but for those left out."""
        parts = range(self._manifest.partitions)
        found = sum(o.records for o in self._manifest.objects if o.component == states)
        gone = sum(1 for p in parts for _ in self._deleted(states, p))
        return found + gone - sum(len(self.database().left_out(states, p)) for p in parts)

    def _positions(self, facts: str) -> dict[int, dict[str, Prefix]]:
        """Partition → topic → where the tail begins in this cluster, of one component's facts."""
        begins = self._tail().begins
        found: dict[int, dict[str, Prefix]] = {p: {} for p in range(self._manifest.partitions)}
        for at in self._manifest.positions:
            if at.topic.endswith(f".{facts}"):
                begin = begins[at.topic, at.partition]
                found[at.partition][at.topic] = Prefix(at.seq, at.stamp, begin)
        return found

    def _tail(self) -> Tail:
        """Of all components, looked for once: a broker of a busy region is slow to answer."""
        if self._begins is None:
            ats = {(at.topic, at.partition): at for at in self._manifest.positions}
            self._begins = beginnings(self._target.bootstrap, self.codec, ats)
        return self._begins

    # -- replay --------------------------------------------------------------------------------

    def replay(self, states: str, forks: Collection[TopicPartition]) -> Replayed:
        """Fold the tail of a component's facts. Resumes where it was killed.

        `forks`: of `restore`. Raises: Unavailable; FencedOut: another recovery has taken over.
        """
        if self._epochs is None:
            following = decided_epochs(self._target.control_bootstrap)
            self._epochs = self._following.enter_context(following)
        if self._known is None:
            self._known = ask(self._target, self._manifest, self.codec, self._journal)
        work = Work(
            self._target, self._generation, self._manifest.partitions, self.codec, self._learn,
            self._epochs, self.writer, self.database(), self._journal, self._report,
        )  # fmt: skip
        return Replay(work, self._known, frozenset(forks)).run(states)


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    batch: list[_T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
