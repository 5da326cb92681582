"""One partition number of a generation that a recovery fills: by one thread, over one connection.

Of a component, from the staged objects of one manifest, in this order:
  1. its states, a batch at a time to the table and then to the state topic; a state that cannot be
     stored is left out of both, kept as a dead letter and noted, and its key waits;
  2. what was deleted, to both;
  3. positions where the tail begins in this cluster, and fences;
  4. the facts that wait: only when its replay is next (must), since a replay lets all go on that
     need not wait any more, and counts them as its own component's.

Killed within, it goes on where it was, since the order is always the same: the table holds the
first so many states (whole batches, and what was left out), a counter says how many records the
topic surely has. What is done again is at most the batch whose count was not noted yet.

Invariants: state records are written under the transactional id of the partition's projector, so a
killed run's leftovers cannot write after us; a state that is written again is the same one; once
the replay of a component has begun, it is not restored again (a state topic must not go back).
Shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from functools import cached_property, partial
from itertools import islice
from threading import Event
from typing import Any, TypeVar

from everlode.adapters.dead_letters import DeadLetters
from everlode.adapters.kafka import Raw, Reader, Record
from everlode.adapters.kafka_sender import Sender
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres_next import NextGeneration, places_of
from everlode.avro.codec import encode_state
from everlode.errors import ContractError, EverlodeError
from everlode.projection.fold import Known, Prefix
from everlode.projection.halves import in_halves
from everlode.projection.tables import FACTS_OF, topic_of
from everlode.recovery.grounds import Grounds
from everlode.telemetry.entries import RecordLeftOut
from everlode.telemetry.pace import Pace
from everlode.topics.names import state_topic

LETTER_S = 15.0
_T = TypeVar("_T")
_Value = Known | Callable[[], Known] | None
"""A state, or what makes it, or none."""


class Stopped(Exception):
    """The recovery ends with another error, or is over: no batch is begun any more."""


class Part:
    """A partition number; `close` it. Not thread-safe: all of it is for one thread at a time."""

    def __init__(self, grounds: Grounds, generation: int, partition: int, stop: Event) -> None:
        """Nothing is opened yet. Once `stop` is set, no batch is begun."""
        self.partition, self.generation = partition, generation
        self.grounds, self.staged, self._stop = grounds, grounds.staged, stop
        self._opened = ExitStack()

    def close(self) -> None:
        """Leave: a projector takes the writer over."""
        self._opened.close()

    @cached_property
    def db(self) -> NextGeneration:
        """The generation, over one connection: a busy database is slow to connect.

        Raises: Unavailable.
        """
        conninfo = self.grounds.target.conninfo
        made = NextGeneration(conninfo, self.generation, "recovery")
        return self._opened.enter_context(closing(made))

    @cached_property
    def writer(self) -> Writer:
        """The one writer of the partition's states; taking it over is dear. Raises: Unavailable."""
        target = self.grounds.target
        name = f"projector.{target.region}.g{self.generation}.{self.partition}"
        writer = Writer(target.bootstrap, name)
        self._opened.callback(writer.abandon)
        writer.open()
        return writer

    @cached_property
    def reader(self) -> Reader:
        """Assigned nothing but by who is reading."""
        reader = Reader(self.grounds.target.bootstrap, "recovery-replay", wait_ms=50)
        return self._opened.enter_context(closing(reader))

    def open(self) -> None:
        """Connect to everything: what fails now is met again when it is needed."""
        with suppress(EverlodeError):
            _ = self.writer, self.db, self.reader

    def go_on(self) -> None:
        """Raises: Stopped."""
        if self._stop.is_set():
            raise Stopped

    # -- restore -----------------------------------------------------------------------------

    def restore(self, states: str, most: int, pace: Pace) -> int:
        """1. to 3., in batches of at most `most`; returns how many states are in the table.

        Raises: Stopped; IntegrityError; Unavailable.
        """
        filling = _Filling(self, states, pace)  # from here on a killed run writes no more
        for batch in _batches(filling.places(), most):
            self.go_on()
            filling.take(batch)
        gone = list(self.staged.deleted(states, self.partition))
        for keys in _batches(iter([key for key, _, _ in gone]), most):
            filling.publish([(key, None) for key in keys])
        self.db.bury(states, self.partition, gone)
        if states not in FACTS_OF:
            manifest = self.grounds.manifest
            self.db.place(self.partition, self._positions(states))
            self.db.reopen(o for o in manifest.opened if self._is_mine(o[0], o[1], states))
        return self.db.loaded(states, self.partition)

    def park(self, facts: str) -> None:
        """4. Raises: IntegrityError; Unavailable."""
        self.db.park(self.partition, self.staged.parked(facts, self.partition))

    def _positions(self, facts: str) -> dict[str, Prefix]:
        """Topic → where the tail begins in this cluster."""
        begins = self.grounds.tail.begins
        return {
            at.topic: Prefix(at.seq, at.stamp, begins[at.topic, at.partition])
            for at in self.grounds.manifest.positions
            if self._is_mine(at.topic, at.partition, facts)
        }

    def _is_mine(self, topic: str, partition: int, facts: str) -> bool:
        return partition == self.partition and topic.endswith(f".{facts}")


class _Filling:
    """States of one component on their way to table and topic, each from where it is filled to."""

    def __init__(self, part: Part, states: str, pace: Pace) -> None:
        self._part, self._states, self._pace = part, states, pace
        self._counter = f"published {states}/{part.partition}"
        self._topic = state_topic(part.generation, states)
        self._writer = part.writer
        self._loaded, self._left_out, self._published = part.db.filled(
            states, part.partition, self._counter
        )
        self._loaded += len(self._left_out)
        self._passed = 0
        """Of the records that are published, those that were met."""
        self._first = places_of(states)[1]
        pace.more(self._loaded)

    def places(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The states, each with its place below 0."""
        values = self._part.staged.states(self._states, self._part.partition)
        return ((self._first - number, value) for number, value in enumerate(values))

    def take(self, batch: Sequence[tuple[int, dict[str, Any]]]) -> None:
        """To the table, then to the topic; what is there already is not even looked at."""
        new = [(at, self._state(value)) for at, value in batch if self._first - at >= self._loaded]
        if new:
            self._pace.more(sum(in_halves(new, self._load, self._refuse)))
        known = dict(new)
        self.publish(
            [
                (value["key"], known.get(at) or partial(self._state, value))
                for at, value in batch
                if at not in self._left_out
            ]
        )

    def publish(self, items: Sequence[tuple[str, _Value]]) -> None:
        """Those that the topic does not have yet; without a state: a tombstone."""
        there = max(0, min(len(items), self._published - self._passed))
        self._passed += len(items)
        records = [self._record(key, value) for key, value in items[there:]]
        if records:
            self._writer.put(records)
            self._published += len(records)
            self._part.db.count(self._counter, self._published)

    def _record(self, key: str, value: _Value) -> Record:
        known = value() if callable(value) else value
        state = known.state if known else None
        doc = None if state is None else encode_state(state)
        return Record(self._topic, self._part.partition, key, doc, [])

    def _state(self, value: dict[str, Any]) -> Known:
        return self._part.staged.state(self._states, self._part.partition, value)

    def _load(self, batch: Sequence[tuple[int, Known]]) -> int:
        keyed = [(known.state.key, known) for _, known in batch if known.state is not None]
        return self._part.db.load(self._states, keyed)

    def _refuse(self, batch: Sequence[tuple[int, Known]], error: ContractError) -> int:
        """Order (must): the letter is kept, then the state is noted as left out."""
        for place, known in batch:
            state = known.state
            if state is None:
                raise error  # only states are staged as such
            topic = topic_of(self._states, state)
            source = [("dlt-object", f"{self._states}-{state.partition}".encode())]
            raw = Raw(
                topic, state.partition, place, state.key.encode(), encode_state(state), source
            )
            letters = DeadLetters(Sender(self._part.grounds.target.bootstrap), "projector")
            letters.add(raw, error)
            letters.deliver(LETTER_S)
            self._part.db.leave_out(state, self._states, place)
            self._left_out.add(place)
            self._part.grounds.report(RecordLeftOut(topic, state.partition, place, error.message))
        return 0


def _batches(items: Iterator[_T], size: int) -> Iterator[list[_T]]:
    while batch := list(islice(items, size)):
        yield batch
