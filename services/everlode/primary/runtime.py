"""One node of a service: follows while it is secondary, decides while it is primary.

A turn of a primary, in this order:
  1. the lease is good, else nothing is done;
  2. read a batch of commands and of facts to react to;
  3. decide, and stage facts and answers; dead letters are delivered (must: before 4);
  4. append facts and read positions in one transaction (must: before any answer);
  5. take the staged states over;
  6. answer (should: a lost answer is asked for again by the client).
Promotion: fence the writer before, read to the end, fold, open the epoch in every partition, and
only then take commands. After any indefinite error the log is opened anew. A foreign record in
its own topic stops the node, which says so on `<origin>.health`. Shell: one thread.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

from everlode.adapters.clock import Clock, instant
from everlode.adapters.dead_letters import DeadLetters
from everlode.adapters.kafka import Raw, Reader, Record
from everlode.adapters.kafka_sender import Sender
from everlode.avro import schemas
from everlode.avro.cloudevents import CONTENT_TYPE
from everlode.avro.codec import Codec, encode_answer
from everlode.control.scopes import Scope
from everlode.errors import ContractError, FencedOut, Refusal, Unavailable
from everlode.events.base import Command, Fact
from everlode.events.catalogue import COMMANDS, EVENTS, STATES
from everlode.events.schemas import SchemaPublished
from everlode.log.facts import FactLog, ForeignRecord
from everlode.membership.agent import NodeAgent
from everlode.primary.batch import Batch, Source
from everlode.primary.component import Component
from everlode.settings.endpoints import RegionParts
from everlode.state.view import Where
from everlode.topics.names import command_topic, reply_topic
from everlode.topics.partition import partition_of
from everlode.topics.place import placed

BATCH = 500
IDLE_S = 0.1
LINGER_S = 0.05
"""After the first record of a batch: fewer and larger transactions, a little later."""
BARRIER_S = 1.0
DUE_S = 0.2
DEAD_LETTER_S = 5.0


FEW = 65_536
"""Bytes that what is only looked at comes in."""


class Runtime:
    """Runs one component's node until `stop`. `say` gets one line at each change of role."""

    def __init__(
        self,
        component: Component,
        agent: NodeAgent,
        place: RegionParts,
        clock: Clock,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.component = component
        self._agent = agent
        self._place = place
        self._clock = clock
        self._say = say
        self.scope = str(Scope(component.name, place.region))
        self._log = FactLog(
            place.bootstrap, place.origin, component.name, place.partitions, component.folds.fold
        )
        group = f"primary.{component.name}.{place.region}"
        self._inputs = Reader(place.bootstrap, group, wait_ms=500)
        self._read: dict[tuple[str, int], int] = {}
        """Where reading has come to; committed with the next facts."""
        self._commands = command_topic(place.region, component.name)
        self._seen = Reader(place.bootstrap, f"{group}.view", wait_ms=500, min_bytes=FEW)
        seen = [(t, p) for t in component.seen_topics() for p in range(place.partitions)]
        self._seen_any = bool(seen)
        self._seen.assign(dict.fromkeys(seen, 0))
        self._sender = Sender(place.bootstrap, linger_ms=2)
        self._codec = Codec()
        self._dead = DeadLetters(self._sender, "primary")
        self._epoch: int | None = None
        self._announced = False
        component.leads = lambda: self._agent.leads(self.scope) == self._epoch is not None
        self._barrier_at = self._due_at = 0.0
        self._stop = threading.Event()

    @property
    def leading(self) -> int | None:
        """Epoch in which it leads, or None."""
        return self._epoch

    def stop(self) -> None:
        """Ask `run` to return."""
        self._stop.set()

    def run(self) -> None:
        """Run until `stop`.

        While this machine's clock is wrong it says so and does not lead. Raises: IntegrityError:
        the log holds what must not be there.
        """
        while not self._stop.is_set():
            if self._agent.failed is not None:
                raise self._agent.failed  # it can never lead again: end, and be started anew
            epoch = self._agent.leads(self.scope)
            try:
                if epoch is None:
                    self._follow()
                elif epoch != self._epoch:
                    self._promote(epoch)
                else:
                    self._turn(epoch)
            except FencedOut:
                self._say(f"{self.scope}: fenced out of epoch {self._epoch}")
                self._step_down()
                self._stop.wait(0.5)
            except Unavailable as error:
                self._say(f"{self.scope}: {error.message}")
                self._step_down()
                self._stop.wait(0.2)
            except Refusal as error:
                if error.code != "clock_skew":
                    raise
                self._say(f"{self.scope}: {error.message}; {error.hint}")  # it may come right
                self._step_down()
                self._stop.wait(1.0)
        self._log.close()
        self._inputs.close()
        self._seen.close()
        self._sender.flush(2)

    # -- roles -------------------------------------------------------------------------------

    def _follow(self) -> None:
        if self._epoch is not None:
            self._step_down()
        self._look(0.0)
        self._log.follow(0.25)

    def _step_down(self) -> None:
        if self._epoch is not None:
            self._say(f"{self.scope}: steps down from epoch {self._epoch}")
        self._epoch = None
        self._log.abandon()

    def _promote(self, epoch: int) -> None:
        """Fence, read to the end and fold, open the epoch everywhere, then take commands."""
        began = time.monotonic()
        self._step_down()
        self._log.open(self.scope, epoch)
        self._catch_view()
        batch = Batch(self.component, self._log, self.scope, epoch, self._agent.identity.node_id)
        batch.open_epoch(self._clock.event_now())
        self._log.append(batch.facts)
        wanted = [
            (t, p)
            for t in (self._commands, *self.component.cause_topics())
            for p in range(self._place.partitions)
        ]
        self._read = {}
        self._inputs.assign(self._inputs.committed(wanted))
        self._epoch = epoch
        self._barrier_at = self._due_at = 0.0
        if not self._announced:
            self._announce()
            self._announced = True
        self._say(f"{self.scope}: leads epoch {epoch} after {time.monotonic() - began:.2f} s")

    def _announce(self) -> None:
        """Publish all schemas that this version writes, so that older readers can learn them.

        Any primary does: nodes of one region are of one version, but for an upgrade.
        """
        states = [cls.__name__ for cls in STATES.values()]
        for name in (*EVENTS, *COMMANDS, "CommandAnswered", *states):
            mark = schemas.fingerprint(name).hex()
            data = SchemaPublished(
                fingerprint=mark,
                schema_name=f"{schemas.NAMESPACE}.{name}",
                document=json.dumps(schemas.raw(name)),
            )
            self._agent.signal(data, topic="schemas", key=mark, partition=0)

    def _catch_view(self) -> None:
        if self._seen_any:
            topics = self.component.seen_topics()
            seen = [(t, p) for t in topics for p in range(self._place.partitions)]
            starts = {at: max(0, next_) for at, next_ in self._seen.positions(seen).items()}
            for batch in self._seen.to_ends(starts, 30, go_on=True):
                self._saw(batch)

    def _look(self, timeout_s: float) -> None:
        if self._seen_any:
            self._saw(self._seen.batch(2000, timeout_s))

    def _saw(self, batch: list[Raw]) -> None:
        wanted = self.component.looks_at
        for raw in batch:
            if wanted and self._codec.type_name(raw.value) not in wanted:
                continue
            try:
                fact = placed(self._codec, raw.topic, raw.key, raw.value)
            except ContractError:
                continue  # its own fold quarantines it; a look needs no more
            self.component.saw(fact)

    # -- a turn ------------------------------------------------------------------------------

    def _turn(self, epoch: int) -> None:
        batch = self._batch(epoch)
        self._look(0.0)
        for raw in self._inputs.batch(BATCH, IDLE_S, LINGER_S):
            fact = None if raw.topic == self._commands else self._cause(raw)
            if (
                fact is not None
                and isinstance(fact.data, self.component.needs_committed)
                and batch.facts
            ):
                self._commit(batch, epoch)
                batch = self._batch(epoch)
            self._read[raw.topic, raw.partition] = raw.offset + 1
            if raw.topic == self._commands:
                self._command(batch, raw)
            elif fact is not None:
                self._react(batch, raw, fact)
        self._timed(batch)
        self._commit(batch, epoch)

    def _batch(self, epoch: int) -> Batch:
        node = self._agent.identity.node_id
        batch = Batch(self.component, self._log, self.scope, epoch, node)
        self.component.peek = batch.peek
        return batch

    def _commit(self, batch: Batch, epoch: int) -> None:
        """Append what is staged, with what was read for it; then answer."""
        self._watch(epoch)
        if self._agent.leads(self.scope) != epoch:
            raise Unavailable("the lease ran out before the commit")
        self._dead.settle(DEAD_LETTER_S)
        if batch.facts:  # what led to no fact may be read again: it leads to none again
            group = self._inputs.group_metadata() if self._read else None
            batch.committed(self._log.append(batch.facts, self._read, group))
            self._read = {}
        for answer in batch.answers(self._place.region, instant(self._clock.wall_ms())):
            topic = reply_topic(self._place.region)
            where = partition_of(answer.reply_to, self._place.partitions)
            headers = [("content-type", CONTENT_TYPE)]
            self._sender.send(Record(topic, where, answer.reply_to, encode_answer(answer), headers))

    def _watch(self, epoch: int) -> None:
        """Look for records of others in the own topic. Raises: ForeignRecord, which it tells."""
        try:
            self._log.watch(self.scope, epoch)
        except ForeignRecord as error:
            self._agent.foreign(error)
            raise

    def _command(self, batch: Batch, raw: Raw) -> None:
        try:
            request = self._codec.decode_request(raw.value)
        except ContractError as error:
            self._dead.add(raw, error)
            return
        if raw.key != request.header.aggregate_id.encode():
            wrong = Refusal("the record's key is not the aggregate's id", code="wrong_key")
            self._dead.add(raw, wrong)
            batch.refuse(request.header, type(request.data).__name__, wrong)
            return
        source, header = Source(raw.topic, raw.partition, raw.offset), request.header
        if isinstance(request.data, Command):
            for owed in self.component.before(header.aggregate_id, request.data, header.issued_at):
                batch.owed(owed, source)
        batch.command(request.header, request.data, source, self._clock.event_now())

    def _cause(self, raw: Raw) -> Fact | None:
        try:
            return placed(self._codec, raw.topic, raw.key, raw.value)
        except ContractError:
            return None  # the projection quarantines it; it can cause nothing

    def _react(self, batch: Batch, raw: Raw, fact: Fact) -> None:
        source = Source(raw.topic, raw.partition, fact.envelope.seq)
        where = Where(raw.topic, raw.partition, raw.offset)
        for owed in self.component.react(fact, where):
            batch.owed(owed, source, fact.envelope)

    def _timed(self, batch: Batch) -> None:
        now = time.monotonic()
        if now >= self._due_at:
            self._due_at = now + DUE_S
            for owed in self.component.due(self._clock.event_now(), self._agent.control):
                batch.owed(owed, None)
        if now >= self._barrier_at:
            # at the same moment in every primary of a machine: who reads several topics wakes once
            self._barrier_at = now - now % BARRIER_S + BARRIER_S
            batch.barrier(self._clock.event_now())
