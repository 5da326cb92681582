"""One node of a service: follows while it is secondary, decides while it is primary.

A turn of a primary, in this order:
  1. which scopes it leads now, by their leases: none, it follows; a new one, it is promoted; one
     that is frozen, it rests (see `freeze`);
  2. read a batch of commands and of facts to react to; what cannot be decoded is a dead letter;
  3. the core decides: facts, positions and answers (see `core`);
  4. a last look: nobody else has written, the leases are good, dead letters are delivered;
  5. append facts, read positions and what is due of the snapshot in one transaction (must: before
     any answer);
  6. the core takes the states over;
  7. answer what is held (should: a lost answer is asked for again by the client), and publish
     what others must hear of.
A promotion, in this order:
  a. fence the writer before, read to the end, fold; what was made elsewhere meanwhile, too;
  b. read what is only looked at to its end;
  c. open the epoch of each scope in every partition;
  d. read on where the last commit of anybody here has left off; what retention has removed since
     is reported.
It begins from the snapshot of its facts, and keeps it (see `memory`).
After any OutcomeUnknown the log is opened anew. A foreign record in its own topic stops the node,
which publishes it on `<origin>.health`. Shell: one thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from everlode.adapters.clock import Clock, instant
from everlode.adapters.dead_letters import DeadLetters
from everlode.adapters.kafka import Raw, Reader, Record
from everlode.adapters.kafka_mixed import MixedReader
from everlode.adapters.kafka_sender import Sender
from everlode.adapters.processor import uncollected
from everlode.avro.cloudevents import CONTENT_TYPE
from everlode.avro.codec import Codec, encode_answer
from everlode.avro.unread import addressee
from everlode.control.scopes import Scope
from everlode.errors import ContractError, EverlodeError, FencedOut, Refusal, Unavailable
from everlode.events.base import CommandAnswered
from everlode.events.catalogue import COMMANDS
from everlode.log.facts import FactLog, ForeignRecord, unwritable
from everlode.log.memory import Memory
from everlode.membership.agent import Load, NodeAgent
from everlode.membership.hand import NOTHING, InHand
from everlode.primary.adopted import Adoption
from everlode.primary.announce import announce
from everlode.primary.component import Component
from everlode.primary.core import DUE_S, Core
from everlode.primary.freeze import FROZEN_S, Freeze
from everlode.primary.horizon import Horizon
from everlode.primary.inputs import (
    CommandRead,
    FactRead,
    Input,
    NothingRead,
    RefusedRead,
    Tick,
    Turn,
    removed,
)
from everlode.primary.pending import HOME
from everlode.primary.ready import Ready
from everlode.primary.seen import Seen
from everlode.primary.standstill import Standstill, Turns, stood
from everlode.primary.traced import traced
from everlode.settings.endpoints import RegionParts
from everlode.state.view import Where
from everlode.telemetry.entries import FencedOutOf, Led, Unanswered
from everlode.telemetry.figures import PrimaryFigures
from everlode.telemetry.sink import Sink, silent
from everlode.topics.names import command_topic, reply_topic
from everlode.topics.partition import partition_of
from everlode.topics.place import TopicPartition, placed

BATCH = 1_000
"""Inputs of one turn at most: a commit costs as much for one as for many."""
IDLE_S = 0.1
FOLLOW_S = 0.25
"""A secondary looks for facts this often; a change of its role it has at once."""
LINGER_S = 0.01
"""After the first record of a batch: fewer and larger transactions, a little later."""
DEAD_LETTER_S = 5.0
ANSWER_MS = 60_000
"""An answer is worth delivering for as long as a client waits, unless that was told otherwise."""
REST_S = 10.0
"""A primary that is asked to stop writes the rest of its snapshot for so long at most."""


class Runtime:
    """Runs one component's node until `stop`, for the scopes that it may be chosen for."""

    def __init__(
        self,
        component: Component,
        agent: NodeAgent,
        parts: RegionParts,
        clock: Clock,
        scopes: Sequence[Scope],
        *,
        hand: InHand = NOTHING,
        report: Sink = silent,
    ) -> None:
        """`scopes`: of this component, the region's own first."""
        self._component, self._agent = component, agent
        self._parts, self._clock, self._scopes = parts, clock, scopes
        self._hand, self._report = hand, report
        self._adopted = Adoption(component, parts, lambda: agent.control, report)
        self._marks = self._adopted.marks()
        """What counted of fenced regions when it was promoted."""
        self._log = FactLog(
            parts.bootstrap, parts.origin, component.name, parts.partitions, self._adopted.fold
        )
        self._core = Core(component, self._log, parts.region, agent.identity.node_id, hand)
        component.leads, self._figures = self._leads, PrimaryFigures(component.name)
        group = f"primary.{component.name}.{parts.region}"
        self._commands = command_topic(parts.region, component.name)
        self._inputs = MixedReader(parts.bootstrap, group, {self._commands}, wait_ms=500)
        self._ends = Reader(parts.bootstrap, group, uncommitted=True)
        """It only asks: behind a fetch that waits for records, an answer would wait too."""
        self._horizon, self._look_at = Horizon(self._ends.unread), 0.0
        self._freeze, self._standstill = Freeze(agent, report), Standstill(self._log_ends)
        self._memory = Memory(component.folds, self._log, parts)
        self._memory.arrived = component.arrived
        self._seen = Seen(component, parts, report, prompt=self._log.prompt)
        self._turns = Turns()
        begin = lambda: self._memory.start(anew=self._adopted.begin())  # noqa: E731
        self._to_start = [begin, self._memory.catch_up, self._seen.start]
        """Each once, also where the other must wait for Kafka."""
        self._answers = Sender(parts.bootstrap, linger_ms=2, timeout_ms=ANSWER_MS)
        """Its own: a dead letter that does not get through is sent again, an answer is not."""
        self._codec, self._announced = Codec(), False
        self._dead = DeadLetters(Sender(parts.bootstrap, linger_ms=2), "primary")
        self._stop, self._role_changed = threading.Event(), threading.Event()
        agent.listen(lambda _: self._role_changed.set())

    def stop(self) -> None:
        """Ask `run` to return."""
        self._stop.set()

    def run(self) -> None:
        """Run until `stop`.

        While this machine's clock is wrong it reports so and does not lead. Raises: IntegrityError:
        the log holds what must not be there.
        """
        while not self._stop.is_set():
            if self._agent.failed is not None:
                raise self._agent.failed  # it can never lead again: end, and be started anew
            led = self._led()
            try:
                self._run_once(led)
            except FencedOut:
                for home, epoch in (self._core.served or led).items():
                    self._report(FencedOutOf(str(self._core.scope(home)), epoch))
                self._step_down()
                self._stop.wait(0.5)
            except Unavailable as error:
                self._report(Unanswered(error.code, error.message, error.hint))
                self._step_down()
                self._stop.wait(0.2)
            except Refusal as error:
                if error.code != "clock_skew":
                    raise
                self._report(Unanswered(error.code, error.message, error.hint))  # it may come right
                self._step_down()
                self._stop.wait(1.0)
        self._write_rest()
        self._log.close()
        self._inputs.close()
        self._ends.close()
        self._seen.close()
        self._memory.close()
        self._answers.flush(2)

    def _run_once(self, led: dict[str, int]) -> None:
        if self._adopted.fenced():
            self._step_down()
            self._stop.wait(FOLLOW_S)
            return
        while self._to_start:
            self._to_start[0]()
            del self._to_start[0]
        # 1. which scopes it leads
        if not (led := self._adopted.able(led)):
            self._follow()
            return
        serves = led.items() <= self._core.served.items()
        serves = serves and self._marks == self._adopted.marks()
        seqs = self._log.seqs if serves else None
        if self._freeze.holds(self._texts(led), self._log.topic, seqs):
            self._stop.wait(FROZEN_S)
        elif serves:
            with self._turns, uncollected():  # what a turn makes is states, or gone with it
                self._turn(led)
        else:
            self._promote(led)

    # -- roles -------------------------------------------------------------------------------

    def _led(self) -> dict[str, int]:
        """Home → epoch, of the scopes for which this node may act now."""
        found = ((scope.home, self._agent.leads(str(scope))) for scope in self._scopes)
        return {home: epoch for home, epoch in found if epoch is not None}

    def _texts(self, led: dict[str, int]) -> dict[str, int]:
        """Scope as text → epoch."""
        return {str(self._core.scope(home)): epoch for home, epoch in led.items()}

    def _leads(self, home: str) -> bool:
        epoch = self._core.served.get(home)
        return epoch is not None and self._agent.leads(str(self._core.scope(home))) == epoch

    def _follow(self) -> None:
        if self._core.served:
            self._step_down()
        self._seen.look()
        self._role_changed.clear()  # what changes from here on ends the wait
        if not self._log.follow(0.0) and not self._led():
            self._role_changed.wait(FOLLOW_S)
        self._standstill.look(self._log.next_offsets, time.monotonic())
        self._memory.follow()

    def _log_ends(self) -> list[int]:
        places = [(self._log.topic, p) for p in range(self._parts.partitions)]
        found = self._ends.ends(places, timeout_s=2)
        return [found[at] for at in places]

    def load(self) -> Load:
        """For the next beat. Any thread."""
        opening = not self._led().items() <= self._core.served.items()
        load = self._component.load()._replace(read_stamp=self._log.read_stamp, opening=opening)
        return stood(load, self._turns.stands() or self._standstill.stands())

    def _step_down(self) -> None:
        for entry in self._core.step_down():
            self._report(entry)
        self._inputs.assign({})  # nothing is fetched for nobody; a promotion says from where on
        self._log.abandon()

    def _promote(self, led: dict[str, int]) -> None:
        began = time.monotonic()
        self._step_down()
        self._marks = self._adopted.marks()
        self._hand.blame()  # what may have ended its predecessor
        # a. fence, read to the end, fold
        self._log.open(self._texts(led))
        self._adopted.bring_home()
        self._memory.catch_up()
        # b. what is only looked at
        self._seen.catch_up()
        # c. open the epochs
        opening = self._core.open(led, self._tick())
        if not led.items() <= self._led().items():
            raise Unavailable("the lease ran out before the epoch was opened")
        self._core.committed(self._log.append(opening.facts))
        self._memory.work.lead(frozenset(self._core.served))
        # d. read on
        wanted = [
            (t, p)
            for t in (self._commands, *self._component.cause_topics())
            for p in range(self._parts.partitions)
        ]
        reads = self._memory.reads
        committed = self._inputs.committed(wanted)
        starts = {at: max(next_, reads.get(at, 0)) for at, next_ in committed.items()}
        starts |= self._inputs.beginnings(self._adopted.anew(starts))
        for entry in removed(starts, self._inputs.beginnings(starts), self._commands):
            self._report(entry)
        self._inputs.assign(starts)
        self._horizon.start({at: next_ for at, next_ in starts.items() if at[0] == self._commands})
        self._standstill.moved(self._log.next_offsets, time.monotonic())
        for home, epoch in led.items():
            self._report(Led(str(self._core.scope(home)), epoch, time.monotonic() - began))

    # -- a turn ------------------------------------------------------------------------------

    def _turn(self, led: dict[str, int]) -> None:
        # 2. read
        self._seen.look()
        raws = self._inputs.batch(BATCH, IDLE_S, LINGER_S)
        began = time.monotonic()
        inputs = [self._decoded(raw) for raw in raws]
        with traced(self._log, raws, inputs):
            # 3. decide
            for ready in self._core.turn(self._turn_of(led, inputs)):
                for entry in ready.report:
                    self._report(entry)
                for where, error in ready.letters:
                    self._dead.add(next(raw for raw in raws if raw[:3] == where), error)
                # 4. a last look
                self._check()
                # 5. append; what led to no fact may be read again: it leads to none again
                offsets = self._append(ready, not inputs)
                # 6. take over
                self._core.committed(offsets)
                # 7. answer
                answers = self._core.held(HOME, instant(self._clock.wall_ms()))
                for answer in answers:
                    self._answer(answer)
                self._figures.answered(answer.outcome for answer in answers)
                for key, event, data in ready.notices:
                    self._agent.signal(data, topic="health", key=key, partition=0, event_id=event)
        if inputs:
            self._figures.turned(time.monotonic() - began)
        if not self._announced:  # not while somebody waits for the first answer
            announce(self._agent)
            self._announced = True

    def _turn_of(self, led: dict[str, int], inputs: list[Input]) -> Turn:
        """A turn with its horizon: where the log ends is asked after the inputs were read."""
        tick, ends_at = self._tick(), None
        if tick.mono_s >= self._look_at:
            self._look_at, ends_at = tick.mono_s + DUE_S, self._component.next_end()
        horizon = self._horizon.until(ends_at, tick.event_now, self._positions)
        return Turn(led, inputs, tick, self._agent.control, horizon)

    def _positions(self) -> dict[TopicPartition, int]:
        return self._inputs.positions([(self._commands, p) for p in range(self._parts.partitions)])

    def _tick(self) -> Tick:
        return Tick(self._clock.event_now(), self._clock.wall_ms(), time.monotonic())

    def _decoded(self, raw: Raw) -> Input:
        where = Where(raw.topic, raw.partition, raw.offset)
        if raw.topic != self._commands:
            try:
                fact = placed(self._codec, raw.topic, raw.key, raw.value)
                counts = self._adopted.may_cause(*raw[:2], fact.envelope)
                return FactRead(where, fact) if counts else NothingRead(where)
            except ContractError:
                return NothingRead(where)  # the projection quarantines it; it can cause nothing
        try:
            header, data = self._codec.decode_request(raw.value)
            if raw.key != header.aggregate_id.encode():
                raise ContractError("the record's key is not the aggregate's id", code="wrong_key")
        except ContractError as error:
            self._dead.add(raw, error)
            return self._refused(raw, error)
        return CommandRead(where, header, data)

    def _refused(self, raw: Raw, error: ContractError) -> Input:
        """Whatever says who sent it is answered."""
        where = Where(raw.topic, raw.partition, raw.offset)
        name = self._codec.type_name(raw.value)
        to = addressee(name if name in COMMANDS else None, raw.key, raw.value, raw.headers)
        if to is None:
            return NothingRead(where)
        return RefusedRead(where, to, Refusal(error.message, code=error.code, hint=error.hint))

    def _check(self) -> None:
        """Raises: ForeignRecord, which it publishes. FencedOut. Unavailable."""
        try:
            self._log.watch()
        except ForeignRecord as error:
            self._agent.foreign(error)
            raise
        if not all(self._leads(home) for home in self._core.served):
            raise Unavailable("the lease ran out before the commit")
        self._dead.deliver(DEAD_LETTER_S)

    def _append(self, ready: Ready, idle: bool) -> list[int]:
        """The offsets of its facts. What is due of the snapshot goes with them, or by itself.

        Raises: Unavailable: also when a fact cannot be written: without its command, then.
        """
        beside = self._memory.beside(ready.facts, ready.changes) if ready.facts or idle else []
        if not ready.facts and not beside:
            return []
        read = ready.read if ready.facts else {}
        group = self._inputs.group_metadata() if read else None
        try:
            offsets = self._log.append(ready.facts, read, group, beside)
        except ContractError as error:
            self._core.impossible(unwritable(ready.facts))
            raise Unavailable(error.message, code=error.code) from None
        self._memory.committed(offsets[len(ready.facts) :], read)
        self._figures.committed(len(ready.facts))
        return offsets[: len(ready.facts)]

    def _write_rest(self) -> None:
        """So that its successor folds nothing again; what is not written is folded from facts."""
        until = time.monotonic() + REST_S
        try:
            while self._core.served and time.monotonic() < until:
                self._check()
                rest = self._memory.rest()
                if not rest:
                    return
                self._memory.committed(self._log.append([], beside=rest), {})
        except EverlodeError as error:
            self._report(Unanswered(error.code, error.message, error.hint))

    def _answer(self, answer: CommandAnswered) -> None:
        topic = reply_topic(self._parts.region)
        where = partition_of(answer.reply_to, self._parts.partitions)
        headers = [("content-type", CONTENT_TYPE)]
        self._answers.send(Record(topic, where, answer.reply_to, encode_answer(answer), headers))
