"""The core of a primary: a turn's input in, what is to be appended and answered out.

It works as etcd-io/raft's `Ready` does: the core decides, the runtime around it does. A turn of a
primary of `miners` in eu, in epoch 3:

      Turn(led, inputs, tick, control)            the core               the runtime
        led      eu: 3                               │
        inputs   deposit m1, deposit m1 again, …  ──►│
                                                     ├──► Ready
                                                     │      facts    m1 v5 seq 10, barriers
                                                     │      read     eu.commands.miners/0: 42
                                                     │                            append, commit
                          the states are taken over  │◄── committed([1007, …])    (must: before
                                                     │                             any answer)
                                                     │◄── held(1, now)
                                                     ├──► answers: done, repeated, each at level 1

A turn, in this order:
  1. a scope that is led no more is served no more; the others go on;
  2. each input is decided, in order; a fact that needs what came before it committed waits for it;
     one whose decision raises what nobody foresaw is refused, and kept as a dead letter, and so is
     one that two processes had in hand when they ended (see `membership.hand`);
  3. what is owed by time, and barriers, are added; nobody's time is over before all that was stored
     by then is among the inputs (see `horizon`);
  4. the Ready is handed out; it must be committed before the next one is asked for;
  5. `committed`: states are taken over, and the answers begin to wait;
  6. `held`: the answers that ask for no more regions are given.
After a Ready that could not be committed the core must step down: `open` forgets it, positions too.

Invariants: a scope is served from `open` on, only in the epoch that was opened, and only while it
is led; a lost one comes back by `open` alone. The position of a reaction that is owed for a lost
scope is not passed: it is read again when the scope is back. Pure, but for what a component does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial

from everlode.avro.unread import Addressee
from everlode.control.scopes import Scope
from everlode.events.base import CommandAnswered
from everlode.log.contents import Asked
from everlode.membership.hand import DECIDING, NOTHING, InHand
from everlode.primary.batch import Batch, LogEnd, NotServed, Source
from everlode.primary.component import Component, Notice, Owed, Validators
from everlode.primary.inputs import CommandRead, FactRead, Input, RefusedRead, Tick, Turn
from everlode.primary.pending import Pending
from everlode.primary.ready import Ready
from everlode.primary.refusals import Refusals
from everlode.primary.unexpected import SetAside, Unexpected, attempt
from everlode.state.view import Where
from everlode.telemetry.entries import Entry, SteppedDown, Undecided
from everlode.topics.place import TopicPartition

BARRIER_S = 1.0
DUE_S = 0.2


class Core:
    """Decides for the scopes that a primary serves, one component's. Not thread-safe."""

    def __init__(
        self,
        component: Component,
        log: LogEnd,
        region: str,
        node_id: str,
        hand: InHand = NOTHING,
    ) -> None:
        self.served: dict[str, int] = {}
        """Home → epoch in which its scope is served; empty while it does not lead."""
        self._component, self._log, self._node_id = component, log, node_id
        self._hand = hand
        self._opened: dict[str, int] = {}
        """What was served when the log was opened last."""
        self._opening: dict[str, int] = {}
        """What will be served once its epochs are opened."""
        self._read: dict[TopicPartition, int] = {}
        """Where reading has come to; committed with the next facts."""
        self._behind: set[TopicPartition] = set()
        """Where a reaction is owed for a scope that was lost: not passed any more."""
        self._batch: Batch
        """What was handed out last."""
        self._pending = Pending(component.folds, log.topic, region, node_id)
        self._barrier_at = self._due_at = 0.0
        self._impossible: set[Asked] = set()
        self._wrong: list[tuple[Where | None, Unexpected]] = []
        self._due_wrong: set[str] = set()
        self._refusals, self._notices = Refusals(component.name), list[Notice]()

    def scope(self, home: str) -> Scope:
        """The scope of a home."""
        return Scope(self._component.name, home)

    def open(self, led: Mapping[str, int], tick: Tick) -> Ready:
        """Open the epochs of these in every partition; they are served once that is committed."""
        self._opened, self._opening = dict(led), dict(led)
        self._read, self._behind, self._refusals = {}, set(), Refusals(self._component.name)
        self._barrier_at = self._due_at = 0.0
        self._component.opens(led)
        batch = Batch(self._component, self._log, led, self._node_id, tick)
        batch.open_epoch()
        return self._ready(batch, [])

    def step_down(self) -> list[Entry]:
        """Serve nothing any more."""
        report: list[Entry] = [
            SteppedDown(str(self.scope(home)), epoch) for home, epoch in self.served.items()
        ]
        self.served.clear()
        self._opening = {}
        self._hand.drop(DECIDING)
        return report

    def turn(self, turn: Turn) -> Iterator[Ready]:
        """Decide one turn; see the module for its steps.

        Must lead at least one scope. Raises: Unavailable: a cause is stamped too far ahead, or a
        component cannot act now; nothing of the turn counts but what was committed.
        """
        # 1. what is led no more
        report = self._lose(turn.led)
        self._component.validators = Validators(turn.control)
        batch = self._begin(turn.tick)
        # 2. the inputs, in order
        for item in turn.inputs:
            topic, partition, offset = item.where
            self._hand.take(DECIDING, _input(item))
            if isinstance(item, FactRead):
                if isinstance(item.fact.data, self._component.needs_committed) and batch.facts:
                    yield self._ready(batch, report)
                    batch, report = self._begin(turn.tick), []
                self._react(batch, item)
            elif isinstance(item, CommandRead):
                self._command(batch, item)
            elif isinstance(item, RefusedRead):
                batch.refuse(item.to, item.wrong)
            if (topic, partition) not in self._behind:
                self._read[topic, partition] = offset + 1
        self._hand.drop(DECIDING)
        # 3. what is owed by time
        self._timed(batch, turn)
        # 4. hand it out
        yield self._ready(batch, report)

    def committed(self, offsets: list[int]) -> None:
        """The Ready's facts stand in the log at these offsets; without facts, nothing had to be."""
        # 5. take over
        if self._opening:
            self.served, self._opening = self._opening, {}
            self._component.served = self.served
        if self._batch.facts:
            self._batch.committed(offsets)
            self._read = {}
        self._pending.committed(self._batch.answers)

    def impossible(self, commands: Iterable[Asked]) -> None:
        """The facts of these cannot be written: after the next `open` they are not decided."""
        self._impossible |= set(commands)

    def held(self, level: int, at: datetime) -> list[CommandAnswered]:
        """`level` regions hold all that is committed: the answers that may be given now."""
        # 6. answer
        return self._pending.held(level, at)

    # -- parts of a turn ---------------------------------------------------------------------

    def _begin(self, tick: Tick) -> Batch:
        batch = Batch(self._component, self._log, self.served, self._node_id, tick)
        batch.impossible = self._impossible
        self._component.peek = batch.peek
        return batch

    def _ready(self, batch: Batch, report: list[Entry]) -> Ready:
        self._batch = batch
        wrong, self._wrong = [*self._wrong, *((None, w) for w in self._pending.wrong)], []
        self._pending.wrong.clear()
        report += [Undecided(error.letter.message) for _, error in wrong]
        refused = self._refusals.unexpected(batch.dropped, report)
        notices, self._notices = [*refused, *self._notices], []
        letters = [(where, error.letter) for where, error in wrong if where is not None]
        read, answers = self._read, batch.answers
        return Ready(batch.facts, batch.changes(), read, answers, report, letters, notices)

    def _lose(self, led: Mapping[str, int]) -> list[Entry]:
        lost = [home for home, epoch in self.served.items() if led.get(home) != epoch]
        return [SteppedDown(str(self.scope(home)), self.served.pop(home)) for home in lost]

    def _command(self, batch: Batch, read: CommandRead) -> None:
        header, data, where = read.header, read.data, read.where

        def decide() -> None:
            before = self._component.before(header.aggregate_id, data, header.issued_at)
            batch.command(header, data, where, before)

        name = type(data).__name__
        wrong = self._attempt(f"{name} {header.command_id}", _input(read), decide)
        if wrong is not None:
            to = Addressee(header.command_id, header.aggregate_id, header.reply_to, name)
            batch.refuse(to, wrong)
            self._wrong.append((where, wrong))

    def _react(self, batch: Batch, read: FactRead) -> None:
        where, envelope = read.where, read.fact.envelope
        if self._component.strays(read.fact):
            return  # each projection notes it
        source = Source(where.topic, where.partition, envelope.seq)

        def decide() -> None:
            for owed in self._component.react(read.fact, where):
                refused = batch.owed(owed, source, envelope)
                if isinstance(refused, NotServed) and refused.home in self._opened:
                    self._behind.add((where.topic, where.partition))

        wrong = self._attempt(f"what follows from {envelope.event_id}", _input(read), decide)
        if wrong is not None:
            self._wrong.append((where, wrong))

    def _attempt(self, what: str, name: str, decide: Callable[[], object]) -> Unexpected | None:
        """As `attempt`, but for what has ended others: that is not touched again."""
        ended = self._hand.kept_off(name)
        return SetAside(what, ended) if ended else attempt(what, decide)

    def _due(self, batch: Batch, turn: Turn) -> None:
        """Each time again; a mistake there is reported once."""

        def all_owed() -> Iterator[Owed]:
            if turn.horizon is not None:
                yield from self._component.over(turn.horizon)
            yield from self._component.due(turn.tick.event_now, turn.control)
            self._notices += self._component.notices(turn.tick.mono_s, turn.control)

        def decide() -> None:
            for owed in all_owed():
                what = f"{type(owed.command).__name__} {owed.command_id}"
                self._note_due(attempt(what, partial(batch.owed, owed, None)))

        self._note_due(attempt("what is due by time", decide))

    def _note_due(self, wrong: Unexpected | None) -> None:
        if wrong is not None and wrong.letter.message not in self._due_wrong:
            self._due_wrong.add(wrong.letter.message)
            self._wrong.append((None, wrong))

    def _timed(self, batch: Batch, turn: Turn) -> None:
        now = turn.tick.mono_s
        if now >= self._due_at:
            self._due_at = now + DUE_S
            self._due(batch, turn)
        if now >= self._barrier_at:
            # at the same moment in every primary of a machine: who reads several topics wakes once
            self._barrier_at = now - now % BARRIER_S + BARRIER_S
            batch.barrier()


def _input(item: Input) -> str:
    """What tells an input from others, wherever it stands: a command may be sent again."""
    if isinstance(item, CommandRead):
        return f"{item.where.topic} {item.header.command_id}"
    return "{}/{}@{}".format(*item.where)
