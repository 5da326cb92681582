"""EventProducer: facts, for a program that holds a scope of its own.

How a fact gets into the log. Any thread emits; one thread of the producer's own writes:

      emit("a", …) ─┐              ┌ facts not known yet ─┐
      emit("b", …) ─┼─► [queue] ──►│ known: first Ack     │──► one transaction ──► Acks ──► `folded`
      emit("a", …) ─┘              └ barriers, when due   ┘    eu.1.tasks/0: a v1 seq 7, a v2 seq 8
                                                               eu.1.tasks/1: b v1 seq 3
                                                               snapshot.eu.1.tasks: what is due

A turn of that thread, in this order:
  1. take what waits, 5,000 at most; what is known to be in the log gets its first Ack again;
  2. the clock is right (see `stampclock`), else nothing is written now; the epoch is still held,
     and nobody else has written, else nothing is written any more;
  3. make one list of lines: barriers when due, then the facts, each with its version, `seq`, stamp;
  4. append them in one transaction, with what is due of the snapshot (must: before any Ack);
  5. take them over, and deliver the Acks;
  6. hand each fact to `folded`.
It begins from the snapshot of its topic, and keeps it, as a primary does (see `known`).
If 4 fails for good, what waits fails with it. If its outcome is not known, the facts fail with
OutcomeUnknown, and the log is opened anew: fenced, read to its end, its epoch opened; only then is
the next turn. What a caller gives is checked in its own thread. If a fact cannot be made or encoded
all the same, it fails alone, and the others are appended.

Invariants: an Ack means committed; `seq` is dense, stamps rise, versions go up by one an aggregate;
an `event_id` is appended once. Shell.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime

from pydantic import ValidationError

from everlode.adapters.clock import Clock, WallClock
from everlode.adapters.processor import uncollected
from everlode.control.scopes import Scope
from everlode.errors import EverlodeError, FencedOut, Refusal, Unavailable
from everlode.events.barriers import Barrier, EpochOpened, Marker
from everlode.events.base import Envelope, Event, Fact, ScopeEpoch
from everlode.events.catalogue import EVENTS
from everlode.events.door import misfit
from everlode.events.stamp import millis_of
from everlode.events.states import State
from everlode.log.facts import ForeignRecord, NewFact
from everlode.log.signals import SignalWriter
from everlode.membership.agent import NodeAgent
from everlode.sdk.emits import Ack, Emit, Emits, RandomIds, Result, unknown
from everlode.sdk.known import Callbacks, Known
from everlode.sdk.lines import Line, Writing, check_cause, check_home, check_ids, moment, too_large
from everlode.sdk.stampclock import ClockAhead, StampClock
from everlode.settings.endpoints import Endpoints
from everlode.state.dispatch import state_component

BATCH = 5000
"""Facts in one transaction at most; a commit costs as much for one as for many."""
TAKE_S = 0.1
BARRIER_S = 1.0
OPENS = 5
"""It fences at most so often before it gives way to one who does the same."""
CLOSE_S = 15.0
REST_S = 10.0
"""A producer that is closed writes the rest of its snapshot for so long at most."""


class EventProducer:
    """Appends facts of a region's component under its scope and one epoch. Thread-safe.

    Opening it fences who wrote before and opens the epoch in every partition. `version` is counted
    per aggregate from what the log holds. At most `window` facts wait; then `emit` waits
    (back-pressure). While the cluster is away a fact waits `timeout_s`, then it fails with
    OutcomeUnknown. A second emit of an `event_id` that is in the log (or waits) gives its first Ack
    again, for as long as it is one of the last 50,000 facts. With an `agent` nothing is written
    unless it leads the scope in this epoch; without one, facts are refused (`clock_skew`) while
    this machine's clock is ahead of the network's.

    It begins from the topic's snapshot: `restored` gets the state of each aggregate that is alive,
    `state` finds the others. `folded` gets each fact that is newer than these, marks left out, in
    order within a partition: while the producer opens, then each that it appended, in its own
    thread. Without `restored` it gets every fact of the log, which is refused once its first ones
    are gone. When fenced, or when `folded` fails, everything that waits fails, and stays failed.
    Use as a context manager.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        region: str,
        component: str,
        *,
        epoch: int,
        agent: NodeAgent | None = None,
        folded: Callable[[Fact], None] | None = None,
        restored: Callable[[State], None] | None = None,
        window: int = 10_000,
        timeout_s: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        """Raises: FencedOut: a later epoch is open. Refusal: the clock is ahead of the network's.

        Unavailable. IntegrityError. ConfigError.
        """
        parts = endpoints.parts(region)
        self.window = window
        self._timeout_s = timeout_s
        self._component, self._home = component, region
        self._scope, self._epoch = str(Scope.of(component, region)), epoch
        self._leads = agent.leads if agent else None
        self._node_id = agent.identity.node_id if agent else "event-producer"
        self._notify = folded
        control = endpoints.control_bootstrap if agent is None else None
        self._clock = StampClock(clock or WallClock(), control)
        self._place = (parts.bootstrap, parts.origin)
        self._known = Known(parts, component, Callbacks(folded, restored))
        self._log = self._known.log
        self._by = Writing(parts.origin, self._scope, epoch)
        self._marker = Marker(self._log.topic, parts.origin, self._scope, epoch, self._node_id)
        try:
            self._clock.begin()
            self._known.begin()
            self._open()
        except BaseException:
            self._leave()
            raise
        self._emits = Emits(window)
        self._ids = RandomIds()
        self._stop = threading.Event()
        self._ended: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="event-producer", daemon=True)
        self._thread.start()

    def emit(
        self,
        key: str,
        data: Event,
        *,
        event_id: str | None = None,
        occurred_at: datetime | None = None,
        correlation_id: str | None = None,
        cause: Envelope | None = None,
    ) -> Future[Ack]:
        """Queue a fact; the future gives its Ack, OutcomeUnknown, a Refusal, or ContractError.

        `cause` is the fact that asked for it: its stamp stays below this one's, and it is named
        as the causation. Derive the `event_id` from its id, and the fact is appended once,
        however often and by whichever primary it is emitted. `occurred_at` is kept in whole
        milliseconds. Raises: FencedOut: the scope is another's. Refusal: closed, an event of
        another topic, an id that does not fit or is at home elsewhere, a time without a zone, a
        cause from the future. IntegrityError: the log is damaged. What `folded` raised.
        """
        if self._ended is not None:
            raise self._ended
        if self._stop.is_set():
            raise Refusal("the producer is closed", code="closed")
        belongs = EVENTS[type(data).__name__].topic
        if belongs != self._component:
            raise Refusal(
                f"{type(data).__name__} does not belong on {self._log.topic}",
                code="wrong_topic",
                hint=f"it is appended by the holder of {belongs}",
            )
        check_ids(event_id, key, correlation_id)
        check_home(self._home, key, cause, lambda: self._known.version(key, data) > 0)
        check_cause(cause, max(self._clock.wall_ms(), millis_of(self._log.clock.last)))
        return self._emits.put(
            Emit(
                event_id or self._ids.draw(),
                key,
                data,
                self._clock.event_now() if occurred_at is None else moment(occurred_at),
                correlation_id or (cause.correlation_id if cause else key),
                cause,
                time.monotonic(),
                Future(),
            )
        )

    def state(self, component: str, key: str) -> State | None:
        """State of an aggregate after all facts that have their Acks, also of one that has ended.

        `component`: tasks, miners, validations, rewards or fraud. None: it never was, was deleted,
        or its last fact cannot follow. Raises: Refusal: of another topic. Unavailable: one that has
        ended is read from Kafka, which does not give it now.
        """
        try:
            return self._known.state(component, key)
        except KeyError:
            raise Refusal(
                f"states of {component} are not made from {self._log.topic}", code="wrong_component"
            ) from None

    def close(self) -> None:
        """Append what waits, then leave. What cannot be appended in 15 s: OutcomeUnknown."""
        self._emits.drain(CLOSE_S)
        self._stop.set()
        self._emits.close()
        self._thread.join(CLOSE_S + REST_S)
        self._leave()
        self._emits.abandon()

    def _leave(self) -> None:
        self._known.close()
        self._clock.close()

    def __enter__(self) -> EventProducer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ack(self, event_id: str, partition: int, offset: int) -> Ack:
        return Ack(event_id, self._log.topic, partition, offset)

    def _open(self) -> None:
        """Become the writer. Raises: FencedOut: a later epoch is open. Unavailable."""
        scopes = (ScopeEpoch(scope=self._scope, epoch=self._epoch),)
        opened = EpochOpened(node_id=self._node_id, scopes=scopes)
        for left in reversed(range(OPENS)):
            self._clock.require()
            self._log.open({self._scope: self._epoch})
            self._known.opened()
            try:
                self._log.append([self._mark(p, opened) for p in range(self._log.partitions)])
                return
            except FencedOut:
                # by one who is late, and could not see it yet: what the log says decides
                if not left:
                    raise

    def _mark(self, partition: int, data: Event) -> NewFact:
        seq = self._log.seqs[partition] + 1
        stamp, now = self._log.next_stamp(self._clock.judged_ms), self._clock.event_now()
        return partition, self._marker.envelope(partition, seq, stamp, now), data

    # -- a turn ------------------------------------------------------------------------------

    def _run(self) -> None:
        barrier_at = 0.0
        while not self._stop.is_set():
            emits = self._emits.take(BATCH, TAKE_S)
            marks = time.monotonic() >= barrier_at
            if marks:
                barrier_at = time.monotonic() + BARRIER_S
            try:
                if emits or marks or self._known.behind:
                    self._turn(emits, marks)
            except Exception as error:  # noqa: BLE001 - the user's `folded`: it must not go on
                self._ended = error
            if self._ended is not None:
                self._emits.deliver([(emit, self._ended) for emit in emits])
            self._emits.done()
        self._write_rest()

    def _turn(self, emits: list[Emit], marks: bool) -> None:
        """One transaction, as the module says."""
        # 1. a repeat gets its first Ack again
        fresh = self._fresh(emits)
        if wrong := self._clock.ahead():
            self._emits.deliver([(emit, wrong) for emit in fresh])
            return
        lines: list[Line] = []
        try:
            with uncollected():  # 2. to 4.: what is made here is sent, or gone with the turn
                self._check()
                lines = self._lines(fresh, marks)
                offsets = self._append([line.fact for line in lines])
        except Unavailable as error:
            why = error.message
            self._emits.deliver([(emit, unknown(emit.event_id, why)) for emit in fresh])
            self._reopen()
        except EverlodeError as error:
            large = too_large(lines)
            if not large:
                self._ended = error
                return
            self._emits.deliver(large)  # nothing was written: it is encoded before it begins
            refused = {emit.event_id for emit, _ in large}
            self._turn([emit for emit in fresh if emit.event_id not in refused], marks)
        else:
            self._appended(lines, offsets)

    def _fresh(self, emits: list[Emit]) -> list[Emit]:
        """Those that are not known to be in the log; the others get their Acks."""
        fresh: list[Emit] = []
        done: list[tuple[Emit, Result]] = []
        for emit in emits:
            place = self._known.place(emit.event_id)
            if place is None:
                fresh.append(emit)
            else:
                done.append((emit, self._ack(emit.event_id, *place)))
        self._emits.deliver(done)
        return fresh

    def _appended(self, lines: list[Line], offsets: list[int]) -> None:
        with uncollected():  # 5. take them over, and deliver the Acks
            self._known.committed([line.fact for line in lines], offsets)
        done: list[tuple[Emit, Result]] = [
            (emit, self._ack(emit.event_id, partition, offset))
            for ((partition, _, _), emit), offset in zip(lines, offsets, strict=False)
            if emit is not None
        ]
        self._emits.deliver(done)
        # 6. hand the facts on
        if self._notify is not None:
            for (_, envelope, data), emit in lines:
                if emit is not None:
                    self._notify(Fact(envelope, data))

    def _append(self, facts: list[NewFact]) -> list[int]:
        """Offsets of the facts, then of what is due of the snapshot."""
        beside = self._known.beside(facts)
        if not facts and not beside:
            return []
        try:
            return self._log.append(facts, beside=beside)
        except FencedOut as error:
            if not self._still_mine():
                raise
            # by one who was late himself: what the log says decides
            raise Unavailable(error.message) from None

    def _check(self) -> None:
        """Raises: EverlodeError: this producer may not write, or no more."""
        if self._ended is not None:
            raise self._ended
        if self._leads is not None and self._leads(self._scope) != self._epoch:
            raise FencedOut(f"{self._scope}: epoch {self._epoch} is not held now")
        try:
            self._log.watch()
        except ForeignRecord as error:
            signals = SignalWriter(*self._place, self._clock)
            signals.foreign(error)
            signals.close()
            raise

    def _still_mine(self) -> bool:
        """Whether its node is said to hold this epoch; without a node nobody says so."""
        return self._leads is not None and self._leads(self._scope) == self._epoch

    def _lines(self, emits: list[Emit], marks: bool) -> list[Line]:
        lines: list[Line] = []
        if marks:
            barrier = Barrier(writer_id=self._node_id)
            lines = [Line(self._mark(p, barrier), None) for p in range(self._log.partitions)]
        seqs = [seq + marks for seq in self._log.seqs]
        versions: dict[tuple[str | None, str], int] = {}
        wrong: list[tuple[Emit, Result]] = []
        for emit in emits:
            key = emit.key
            partition = self._log.partition_of(key)
            aggregate = state_component(type(emit.data).__name__), key
            version = versions.get(aggregate) or self._known.version(key, emit.data)
            version += 1
            try:
                above = emit.cause.stamp if emit.cause else 0
                stamp = self._log.next_stamp(self._clock.judged_ms, above)
                envelope = self._by.envelope(emit, version, seqs[partition] + 1, stamp)
            except (Refusal, ValidationError) as error:
                wrong.append((emit, error if isinstance(error, Refusal) else misfit(error)))
                continue
            versions[aggregate] = version
            seqs[partition] += 1
            lines.append(Line((partition, envelope, emit.data), emit))
        self._emits.deliver(wrong)
        return lines

    def _reopen(self) -> None:
        """Find out what really is in the log before going on."""
        while not self._stop.wait(0.5):
            try:
                if self._leads is not None and not self._still_mine():
                    raise FencedOut(f"{self._scope}: epoch {self._epoch} is not held now")
                self._open()
            except (Unavailable, ClockAhead) as error:
                self._emits.expire(self._timeout_s, error.message)
                continue
            except EverlodeError as error:
                self._ended = error
            return

    def _write_rest(self) -> None:
        """So that the next one folds nothing again; what is not written is folded from facts."""
        until = time.monotonic() + REST_S
        try:
            while self._ended is None and time.monotonic() < until:
                self._check()
                rest = self._known.rest()
                if not rest:
                    return
                self._known.committed([], self._log.append([], beside=rest))
        except EverlodeError:
            return  # another writes it, or nobody can now
