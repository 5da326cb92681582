"""One batch of a primary: decisions staged until their transaction is committed.

Invariants: versions, `seq` and stamps follow the log and what is staged before; nothing staged is
visible outside until `FactLog.append` has returned.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid5

from pydantic import ValidationError

from everlode.errors import EverlodeError, NotFound, Refusal, Unavailable
from everlode.events.barriers import Barrier, EpochOpened, Marker
from everlode.events.base import (
    Command,
    CommandAnswered,
    CommandHeader,
    Envelope,
    Event,
    Fact,
    ScopeEpoch,
)
from everlode.events.states import State
from everlode.log.facts import FactLog, LoggedFact
from everlode.primary.component import Component, Owed
from everlode.primary.folds import Answered, Asked, Key
from everlode.state.dispatch import component_of_command, component_of_state, decide, evolve_fact
from everlode.state.reactions import NAMESPACE
from everlode.state.shape import Context

FUTURE = timedelta(minutes=5)
"""A command from further ahead than this is refused."""


class Source:
    """Where a command or its cause was read."""

    __slots__ = ("partition", "position", "topic")

    def __init__(self, topic: str, partition: int, position: int) -> None:
        self.topic, self.partition, self.position = topic, partition, position


class Batch:
    """Staged decisions of one primary under one scope and epoch."""

    def __init__(
        self, component: Component, log: FactLog, scope: str, epoch: int, node_id: str
    ) -> None:
        self._component = component
        self._log = log
        self._scope, self._epoch, self._node_id = scope, epoch, node_id
        self._seqs = list(log.seqs)
        self._staged: dict[Key, tuple[State | None, int]] = {}
        self._decided: set[Asked] = set()
        self.facts: list[tuple[int, Envelope, Event]] = []
        self._answers: list[tuple[CommandHeader, str, str, EverlodeError | None]] = []

    # -- decisions ---------------------------------------------------------------------------

    def command(self, header: CommandHeader, data: object, source: Source, now: datetime) -> None:
        """Decide a command from outside and stage its facts and its answer."""
        name = type(data).__name__
        if self._repeated((header.aggregate_id, header.command_id)):
            self._answers.append((header, name, "repeated", None))
            return
        try:
            if header.issued_at > now + FUTURE:
                raise Refusal(
                    f"{name} comes from the future",
                    code="from_the_future",
                    hint="set the clock of the machine that sent it",
                )
            if not isinstance(data, Command):
                raise Refusal(f"{name} is no command", code="not_a_command")
            owed = Owed(
                header.command_id,
                header.aggregate_id,
                data,
                header.issued_at,
                header.causation_id,
            )
            count = self._decide(owed, source, header.correlation_id)
        except Refusal as error:
            self._answers.append((header, name, "refused", error))
        else:
            self._answers.append((header, name, "done" if count else "repeated", None))

    def refuse(self, header: CommandHeader, name: str, error: Refusal) -> None:
        """Stage the refusal of a command that is not even decided."""
        self._answers.append((header, name, "refused", error))

    def owed(
        self, owed: Owed, source: Source | None, cause: Envelope | None = None
    ) -> EverlodeError | None:
        """Decide a command to oneself, stamped above `cause`. A refusal is its lawful end.

        Raises: Unavailable: the cause is stamped too far ahead; it is read again later.
        """
        if self._repeated((owed.aggregate_id, owed.command_id)):
            return None
        correlation = cause.correlation_id if cause is not None else owed.aggregate_id
        try:
            self._decide(owed, source, correlation, cause.stamp if cause is not None else 0)
        except Refusal as error:
            if error.code == "clock_skew":
                raise Unavailable(error.message, code=error.code, hint=error.hint) from None
            return error
        return None

    def peek(self, component: str, key: str) -> State | None:
        """A state as staged in this batch, else as committed."""
        return self._state((component, key))[0]

    def _repeated(self, asked: Asked) -> bool:
        return asked in self._component.folds.answers or asked in self._decided

    def _state(self, key: Key) -> tuple[State | None, int]:
        if key in self._staged:
            return self._staged[key]
        folds = self._component.folds
        return folds.get(*key), folds.version(*key)

    def _decide(
        self, owed: Owed, source: Source | None, correlation: str, cause_stamp: int = 0
    ) -> int:
        component = component_of_command(owed.command)
        if type(owed.command).component != self._component.name:
            raise Refusal(
                f"{type(owed.command).__name__} is not for {self._component.name}",
                code="wrong_component",
            )
        key = (component, owed.aggregate_id)
        state, version = self._state(key)
        if state is None and version:
            raise NotFound(f"{owed.aggregate_id} was deleted", code="deleted")
        topology = self._component.topology
        context = Context(
            owed.aggregate_id,
            self._component.home,
            owed.at,
            topology.task_types,
            owed.command_id,
        )
        seqs, facts = list(self._seqs), []
        partition = self._log.partition_of(owed.aggregate_id)
        try:
            events = decide(component, owed.command, state, context)
            stamp_cause = max(cause_stamp, state.stamp if state is not None else 0)
            stamps = [self._log.next_stamp(stamp_cause) for _ in events]
            for number, (event, stamp) in enumerate(zip(events, stamps, strict=True)):
                version += 1
                seqs[partition] += 1
                envelope = Envelope(
                    event_id=str(
                        uuid5(NAMESPACE, f"{owed.aggregate_id}/{owed.command_id}/{number}")
                    ),
                    aggregate_id=owed.aggregate_id,
                    version=version,
                    origin=self._log.origin,
                    scope=self._scope,
                    epoch=self._epoch,
                    seq=seqs[partition],
                    stamp=stamp,
                    occurred_at=owed.at,
                    command_id=owed.command_id,
                    correlation_id=correlation,
                    causation_id=owed.cause,
                    source_topic=source.topic if source else None,
                    source_partition=source.partition if source else None,
                    source_position=source.position if source else None,
                )
                state = evolve_fact(state, Fact(envelope, event), partition)
                facts.append((partition, envelope, event))
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise Refusal(
                f"{type(owed.command).__name__} leads to a fact whose {where} does not fit",
                code="does_not_fit",
            ) from None
        # nothing is staged before all of it is known to be lawful
        self._seqs = seqs
        self.facts += facts
        if events:
            self._decided.add((owed.aggregate_id, owed.command_id))
            self._staged[key] = (state, version)
        return len(events)

    # -- marks -------------------------------------------------------------------------------

    def open_epoch(self, now: datetime) -> None:
        """Stage EpochOpened in every partition: lower epochs end here."""
        scopes = (ScopeEpoch(scope=self._scope, epoch=self._epoch),)
        self._mark(EpochOpened(node_id=self._node_id, scopes=scopes), now)

    def barrier(self, now: datetime) -> None:
        """Stage a barrier in every partition."""
        self._mark(Barrier(writer_id=self._node_id), now)

    def _mark(self, event: Event, now: datetime) -> None:
        log = self._log
        marker = Marker(log.topic, log.origin, self._scope, self._epoch, self._node_id)
        for partition in range(self._log.partitions):
            stamp = self._log.next_stamp()
            self._seqs[partition] += 1
            envelope = marker.envelope(partition, self._seqs[partition], stamp, now)
            self.facts.append((partition, envelope, event))

    # -- after the commit --------------------------------------------------------------------

    def committed(self, offsets: list[int]) -> None:
        """Take the staged states over."""
        folds = self._component.folds
        last: dict[Key, Fact] = {}
        for (partition, envelope, data), offset in zip(self.facts, offsets, strict=True):
            if isinstance(data, Barrier | EpochOpened):
                continue
            fact = Fact(envelope, data)
            last[component_of_state(type(data)), envelope.aggregate_id] = fact
            folds.answer(LoggedFact(fact, partition, offset))
        for key, (state, _) in self._staged.items():
            folds.put(*key, state, last[key])

    def answers(self, region: str, now: datetime) -> list[CommandAnswered]:
        """Answers to the commands from outside, in order; only after the commit."""
        return [
            self._answer(header, name, outcome, error, region, now)
            for header, name, outcome, error in self._answers
            if header.reply_to
        ]

    def _answer(
        self,
        header: CommandHeader,
        name: str,
        outcome: str,
        error: EverlodeError | None,
        region: str,
        now: datetime,
    ) -> CommandAnswered:
        asked = (header.aggregate_id, header.command_id)
        facts: list[Answered] = self._component.folds.answers.get(asked, [])
        return CommandAnswered.model_validate(
            {
                "command_id": header.command_id,
                "command_type": name,
                "aggregate_id": header.aggregate_id,
                "reply_to": header.reply_to,
                "region": region,
                "node_id": self._node_id,
                "outcome": outcome,
                "code": error.code if error else "",
                "message": error.message if error else "",
                "hint": error.hint if error else "",
                "facts": [f.ref(self._log.topic) for f in facts],
                "level": 1,
                "answered_at": now,
            }
        )
