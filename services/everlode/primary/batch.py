"""One batch of the core: decisions staged until their transaction is committed.

Staging, for two commands on one aggregate (`m` has version 4, its partition's last `seq` is 9):

      folds, as committed      staged                              facts, to be appended
      m: version 4     ──────► deposit:  m version 5  ───────────► m v5, seq 10, scope, epoch
                               slash:    decides on version 5 ───► m v6, seq 11, scope, epoch
      committed(offsets)  ◄─── m: version 6

A command is decided in this order:
  1. its aggregate, as staged before, else as committed;
  2. the scope of the aggregate's home, and the epoch in which it is served; else it is refused;
  3. the rules give events;
  4. each event becomes a fact: version, `seq`, stamp, and the state after it;
  5. all of it is staged, or nothing.

Invariants: versions, `seq` and stamps follow the log and what is staged before; a refusal leaves
nothing behind; nothing staged is visible outside until `committed`. Pure: time is in the tick.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from datetime import timedelta
from typing import NamedTuple, Protocol

from pydantic import ValidationError

from everlode.avro.building import builder
from everlode.avro.unread import Addressee
from everlode.control.scopes import Scope
from everlode.errors import ContractError, FencedOut, NotFound, Refusal, Unavailable
from everlode.events import door
from everlode.events.barriers import Barrier, EpochOpened, Marker
from everlode.events.base import Command, CommandHeader, Envelope, Event, Fact, ScopeEpoch
from everlode.events.identity import home_of_id, is_stray
from everlode.events.ids import OWN, check_outside, fact_id
from everlode.events.stamp import HybridClock
from everlode.events.states import State
from everlode.log.contents import Asked, Contents, content_of
from everlode.log.facts import LoggedFact, NewFact
from everlode.primary.component import Component, Owed
from everlode.primary.inputs import Tick
from everlode.primary.pending import Answer
from everlode.snapshots.dirty import FactAt, Key
from everlode.snapshots.work import Change
from everlode.state.dispatch import component_of_command, component_of_state, decide, evolve_fact
from everlode.state.homes import check_home, check_qualified
from everlode.state.shape import Context, home_of

_envelope: Callable[[dict[str, object]], Envelope] = builder(Envelope)
"""Of values that a command and the log have typed."""
FUTURE = timedelta(minutes=5)
"""A command from further ahead than this is refused."""


class LogEnd(Protocol):
    """Where the fact topic ends, as its one writer must go on."""

    topic: str
    origin: str
    partitions: int
    seqs: list[int]
    """The last `seq` of each partition."""
    clock: HybridClock

    def partition_of(self, key: str) -> int:
        """Partition of an aggregate."""


class Source(NamedTuple):
    """Where a command or its cause was read: `position` is a command's offset, a fact's `seq`."""

    topic: str
    partition: int
    position: int


class NotServed(Refusal):
    """The aggregate is at home where this primary does not lead."""

    default_code = "not_served"

    def __init__(self, scope: Scope) -> None:
        super().__init__(
            f"{scope} is not served here now",
            hint="send it again: whoever leads the scope by then answers",
        )
        self.home = scope.home


class _Why(NamedTuple):
    """What the facts of a decision say of where they come from."""

    home: str
    """Home of the aggregate, if it is new."""
    source: tuple[str, int, int] | None
    correlation: str
    stamp: int = 0


class _Subject(NamedTuple):
    """The aggregate that is decided on, and under which scope and epoch."""

    key: Key
    state: State | None
    version: int
    home: str
    scope: str
    epoch: int


class Batch:
    """Staged decisions of one primary for the scopes that it serves: home → epoch."""

    def __init__(
        self,
        component: Component,
        log: LogEnd,
        served: Mapping[str, int],
        node_id: str,
        tick: Tick,
    ) -> None:
        self._component, self._log, self._tick = component, log, tick
        self._node_id = node_id
        self._served = {
            home: (str(Scope(component.name, home)), epoch) for home, epoch in served.items()
        }
        self._seqs = list(log.seqs)
        self._staged: dict[Key, tuple[State | None, int]] = {}
        self._decided: set[Asked] = set()
        self.facts: list[NewFact] = []
        self.answers: list[Answer] = []
        """To the commands from outside, in order."""
        self._contents = Contents()
        self.dropped: list[tuple[Owed, Refusal]] = []
        """Commands to oneself that were refused, in order."""
        self.impossible: Container[Asked] = ()
        """Commands whose facts cannot be written; see `Core.impossible`."""

    # -- commands ----------------------------------------------------------------------------

    def command(
        self,
        header: CommandHeader,
        data: Command,
        source: tuple[str, int, int],
        before: Iterable[Owed] = (),
    ) -> None:
        """Decide a command from outside and stage its facts and its answer.

        `before`: what is owed first, once the command has passed the door.
        """
        name = type(data).__name__
        to = Addressee(header.command_id, header.aggregate_id, header.reply_to, name)
        try:
            check_outside(header.command_id)
            asked = header.aggregate_id, header.command_id
            if self._repeated(asked):
                for known in (self._contents, self._component.folds.contents):
                    known.check(asked, data)
                self.answers.append(Answer(to, "repeated"))
                return
            if header.issued_at > self._tick.event_now + FUTURE:
                raise Refusal(
                    f"{name} comes from the future: issued_at is {header.issued_at.isoformat()}",
                    code="from_the_future",
                    hint="set the clock of the machine that sent it",
                )
            door.check(header, self._tick.event_now)
            door.check(data, self._tick.event_now)
            operators = self._component.topology.operators
            door.check_asked(data, header.issued_by, operators)
            for first in before:
                self.owed(first, source)
            # what was said is past: nobody gets ahead of what follows from it
            at = min(header.issued_at, self._tick.event_now)
            home = self._home_of(header.aggregate_id, data)
            owed = Owed(header.command_id, header.aggregate_id, data, at, header.causation_id)
            why = _Why(home, source, header.correlation_id)
            count = self._decide(owed, why)
        except FencedOut:  # says nothing of the command: another one decides it
            raise
        except Refusal as error:
            self.answers.append(Answer(to, "refused", error))
        else:
            self.answers.append(Answer(to, "done" if count else "repeated"))
            if count:
                self._contents.note(asked, content_of(data))

    def refuse(self, to: Addressee, error: Refusal) -> None:
        """Stage the refusal of a command that is not even decided."""
        self.answers.append(Answer(to, "refused", error))

    def owed(
        self, owed: Owed, source: tuple[str, int, int] | None, cause: Envelope | None = None
    ) -> Refusal | None:
        """Decide a command to oneself, stamped above `cause`. A refusal ends it.

        Raises: Unavailable: the cause is stamped too far ahead; it is read again later.
        """
        if self._repeated((owed.aggregate_id, owed.command_id)):
            return None
        home = self._component.home
        if cause is None:
            why = _Why(home, source, owed.aggregate_id, owed.above)
        else:
            cause_home = home_of(cause)
            home = cause_home if cause_home in self._served else home
            why = _Why(home, source, cause.correlation_id, cause.stamp)
        try:
            self._decide(owed, why)
        except Refusal as error:
            if error.code == "clock_skew":
                raise Unavailable(error.message, code=error.code, hint=error.hint) from None
            if not isinstance(error, NotServed):  # whoever leads there does it
                self.dropped.append((owed, error))
            return error
        return None

    def changes(self) -> list[Change]:
        """Each aggregate that a decision was staged on, as committed and as staged."""
        states = self._component.folds.states
        staged = self._staged.items()
        return [(dict.get(states[name], key), new) for (name, key), (new, _) in staged]

    def peek(self, component: str, key: str) -> State | None:
        """A state as staged in this batch, else as committed."""
        return self._state((component, key))[0]

    # -- a decision --------------------------------------------------------------------------

    def _decide(self, owed: Owed, why: _Why) -> int:
        """Decide and stage; returns how many facts it led to. Raises: Refusal."""
        if (owed.aggregate_id, owed.command_id) in self.impossible:
            raise ContractError("its facts cannot be written", code="unwritable")
        # 1. and 2. the aggregate, and under which scope
        subject = self._subject(owed, why)
        context = Context(
            owed.aggregate_id,
            subject.home,
            owed.at,
            self._component.topology.task_types,
            owed.command_id,
            self._component.topology.operators,
            self._component.validators,
            owed.command_id.startswith(OWN),
        )
        try:
            # 3. the rules
            events = decide(subject.key[0], owed.command, subject.state, context)
            # 4. the facts
            facts, state = self._facts(events, subject, owed, why)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise Refusal(
                f"{type(owed.command).__name__} leads to a fact whose {where} does not fit",
                code="does_not_fit",
            ) from None
        # 5. all of it is lawful
        if facts:
            partition, last, _ = facts[-1]
            self._seqs[partition] = last.seq
            self.facts += facts
            self._decided.add((owed.aggregate_id, owed.command_id))
            self._staged[subject.key] = (state, last.version)
        return len(facts)

    def _repeated(self, asked: Asked) -> bool:
        return asked in self._component.folds.answers or asked in self._decided

    def _state(self, key: Key) -> tuple[State | None, int]:
        if key in self._staged:
            return self._staged[key]
        return self._component.folds.look(*key)

    def _home_of(self, aggregate_id: str, command: Command) -> str:
        """Home of what a command from outside creates. Raises: Refusal: its id has none."""
        home = home_of_id(aggregate_id)
        if not home and not self._state((component_of_command(command), aggregate_id))[1]:
            check_qualified(command, aggregate_id, self._component.home)
        return home if home in self._served else self._component.home

    def _subject(self, owed: Owed, why: _Why) -> _Subject:
        """Raises: Refusal: of another component, deleted, or at home in a scope not served."""
        command, name = owed.command, self._component.name
        if type(command).component != name:
            raise Refusal(f"{type(command).__name__} is not for {name}", code="wrong_component")
        key = (component_of_command(command), owed.aggregate_id)
        state, version = self._state(key)
        if state is None and version:
            raise NotFound(f"{owed.aggregate_id} was deleted", code="deleted")
        home = why.home if state is None else state.home
        if is_stray(owed.aggregate_id, home, self._component.topology.regions):
            check_home(owed.aggregate_id, home)
        held = self._served.get(home)
        if held is None:
            raise NotServed(Scope(name, home))
        return _Subject(key, state, version, home, *held)

    def _facts(
        self, events: tuple[Event, ...], subject: _Subject, owed: Owed, why: _Why
    ) -> tuple[list[NewFact], State | None]:
        """The events as facts, and the state after them. Raises: Refusal: clock skew."""
        log, state, version = self._log, subject.state, subject.version
        partition = log.partition_of(owed.aggregate_id)
        seq = self._seqs[partition]
        cause = max(why.stamp, state.stamp if state is not None else 0)
        # all stamps first: a refusal leaves no half of them
        stamps = [log.clock.next(self._tick.wall_ms, cause) for _ in events]
        topic, number, position = why.source or (None, None, None)
        facts: list[NewFact] = []
        for event, stamp in zip(events, stamps, strict=True):
            version += 1
            seq += 1
            envelope = _envelope(
                {
                    "event_id": fact_id(owed.aggregate_id, owed.command_id, len(facts)),
                    "aggregate_id": owed.aggregate_id,
                    "version": version,
                    "origin": log.origin,
                    "scope": subject.scope,
                    "epoch": subject.epoch,
                    "seq": seq,
                    "stamp": stamp,
                    "occurred_at": owed.at,
                    "command_id": owed.command_id,
                    "correlation_id": why.correlation,
                    "causation_id": owed.cause,
                    "source_topic": topic,
                    "source_partition": number,
                    "source_position": position,
                }
            )
            state = evolve_fact(state, Fact(envelope, event), partition)
            facts.append((partition, envelope, event))
        return facts, state

    # -- marks -------------------------------------------------------------------------------

    def open_epoch(self) -> None:
        """Stage EpochOpened of all scopes in every partition: lower epochs end here."""
        scopes = tuple(ScopeEpoch(scope=s, epoch=epoch) for s, epoch in self._served.values())
        self._mark(EpochOpened(node_id=self._node_id, scopes=scopes))

    def barrier(self) -> None:
        """Stage a barrier in every partition."""
        self._mark(Barrier(writer_id=self._node_id))

    def _mark(self, event: Event) -> None:
        log = self._log
        scope, epoch = next(iter(self._served.values()))  # a mark is the writer's, not a scope's
        marker = Marker(log.topic, log.origin, scope, epoch, self._node_id)
        for partition in range(log.partitions):
            stamp = log.clock.next(self._tick.wall_ms)
            self._seqs[partition] += 1
            at = self._tick.event_now
            envelope = marker.envelope(partition, self._seqs[partition], stamp, at)
            self.facts.append((partition, envelope, event))

    # -- after the commit --------------------------------------------------------------------

    def committed(self, offsets: list[int]) -> None:
        """Take the staged states over."""
        folds = self._component.folds
        folds.contents.add(self._contents)
        first: dict[Key, FactAt] = {}
        last: dict[Key, tuple[Fact, int]] = {}
        for (partition, envelope, data), offset in zip(self.facts, offsets, strict=True):
            if isinstance(data, Barrier | EpochOpened):
                continue
            fact = Fact(envelope, data)
            key = component_of_state(type(data)), envelope.aggregate_id
            first.setdefault(key, FactAt(partition, offset, envelope.seq))
            last[key] = fact, offset
            folds.answer(LoggedFact(fact, partition, offset))
        for key, place in first.items():
            state, _ = self._staged[key]
            fact, offset = last[key]
            folds.put(*key, state, fact, (place, offset))
