"""EventProducer: facts, for a program that holds a scope of its own.

Facts go out in transactions, batched by a thread of its own; `seq` and `stamp` are given here. An
`Ack` means committed. Shell.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import NamedTuple

from everlode.adapters.clock import WallClock
from everlode.avro.codec import encode_fact
from everlode.errors import (
    ContractError,
    EverlodeError,
    FencedOut,
    OutcomeUnknown,
    Refusal,
    Unavailable,
)
from everlode.events.barriers import Barrier, EpochOpened, Marker
from everlode.events.base import Envelope, Event, Fact, ScopeEpoch
from everlode.events.catalogue import EVENTS
from everlode.log.facts import FactLog, ForeignRecord, LoggedFact
from everlode.log.signals import SignalWriter

BATCH = 5000
"""Facts in one transaction at most; a commit costs as much for one as for many."""
BARRIER_S = 1.0
CLOSE_S = 15.0
MAX_ID = 255
KEPT_ACKS = 100_000
"""Facts whose Ack is remembered; a repeat of an older one is appended again."""


class Ack(NamedTuple):
    """A committed fact."""

    event_id: str
    topic: str
    partition: int
    offset: int


def _unknown(event_id: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"event {event_id} may or may not be in the log",
        hint="emit it again with the same event_id: it is appended once",
        event_id=event_id,
    )


class _Item(NamedTuple):
    event_id: str
    key: str
    data: Event
    occurred_at: datetime
    correlation_id: str
    cause: Envelope | None
    since: float
    """When it was emitted, on the monotonic clock."""
    future: Future[Ack]


def _check_ids(*ids: str | None) -> None:
    """Raises: Refusal: an id does not fit the envelope."""
    for text in ids:
        if text is not None and not 0 < len(text) <= MAX_ID:
            raise Refusal(
                f"an id has {len(text)} characters", code="bad_id", hint=f"1 to {MAX_ID} of them"
            )


def _too_large(
    facts: Sequence[tuple[int, Envelope, Event]], of: Sequence[_Item | None]
) -> list[tuple[_Item, Ack | Exception]]:
    """The items whose facts cannot be encoded, and why."""
    found: list[tuple[_Item, Ack | Exception]] = []
    for (_, envelope, data), item in zip(facts, of, strict=True):
        try:
            encode_fact(envelope, data)
        except ContractError as error:
            if item is not None:
                found.append((item, error))
    return found


class EventProducer:
    """Appends facts of one component under one scope and epoch. Thread-safe.

    Opening it fences who wrote before and opens the epoch in every partition. `version` is counted
    per aggregate from what the log holds. At most `window` facts wait; then `emit` waits
    (back-pressure). While the cluster is away a fact waits `timeout_s`, then it fails with
    OutcomeUnknown. A second emit of an `event_id` that is in the log (or waits) gives its first Ack
    again. With `leads` (a NodeAgent's, say) nothing is written unless it gives this epoch.
    `folded` is told of each fact in the log, marks left out, in order within a partition: of those
    before while the producer opens, then of each that it appended, in its own thread. When fenced,
    or when `folded` fails, everything that waits fails, and stays failed. Use as a context manager.
    """

    def __init__(
        self,
        bootstrap: str,
        origin: str,
        component: str,
        partitions: int,
        *,
        scope: str,
        epoch: int,
        node_id: str = "event-producer",
        leads: Callable[[str], int | None] | None = None,
        folded: Callable[[Fact], None] | None = None,
        window: int = 10_000,
        timeout_s: float = 30.0,
    ) -> None:
        """Raises: FencedOut: a later epoch is open. Unavailable. IntegrityError."""
        self.window = window
        self._timeout_s = timeout_s
        self._versions: dict[str, int] = {}
        self._known: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._waiting: dict[str, Future[Ack]] = {}
        self._component = component
        self._scope, self._epoch, self._node_id = scope, epoch, node_id
        self._leads = leads
        self._tell = folded
        self._clock = WallClock()
        self._place = (bootstrap, origin)
        self._log = FactLog(bootstrap, origin, component, partitions, self._folded)
        self._marker = Marker(self._log.topic, origin, scope, epoch, node_id)
        self._open()
        self._queue: list[_Item] = []
        self._busy = False
        self._changed = threading.Condition()
        """Guards the queue and what waits."""
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
        """Queue a fact; the future gives its Ack, OutcomeUnknown, FencedOut, or ContractError.

        `cause` is the fact that asked for it: its stamp stays below this one's, and it is named
        as the causation. Derive the `event_id` from its id, and the fact is appended once,
        however often and by whichever primary it is emitted. Raises: FencedOut: the scope is
        another's. Refusal: closed, or an event of another topic. IntegrityError: the log is
        damaged. What `folded` raised.
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
        _check_ids(event_id, key, correlation_id)
        item = _Item(
            event_id or str(uuid.uuid4()),
            key,
            data,
            occurred_at or self._clock.event_now(),
            correlation_id or (cause.correlation_id if cause else key),
            cause,
            time.monotonic(),
            Future(),
        )
        with self._changed:
            waiting = self._waiting.setdefault(item.event_id, item.future)
            if waiting is item.future:
                while len(self._queue) >= self.window and not self._stop.is_set():
                    self._changed.wait(1.0)
                self._queue.append(item)
                if len(self._queue) == 1:
                    self._changed.notify_all()
        return waiting

    def close(self) -> None:
        """Append what waits, then leave. What cannot be appended in 15 s: OutcomeUnknown."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._queue or self._busy), CLOSE_S)
        self._stop.set()
        self._thread.join(CLOSE_S)
        self._log.close()
        for event_id, future in list(self._waiting.items()):
            if future.set_running_or_notify_cancel():
                future.set_exception(_unknown(event_id))

    def __enter__(self) -> EventProducer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _folded(self, placed: LoggedFact) -> None:
        envelope = placed.fact.envelope
        if isinstance(placed.fact.data, Barrier | EpochOpened):
            return
        known = self._versions.get(envelope.aggregate_id, 0)
        self._versions[envelope.aggregate_id] = max(known, envelope.version)
        self._remember(envelope.event_id, placed.partition, placed.offset)
        if self._tell is not None:
            self._tell(placed.fact)

    def _remember(self, event_id: str, partition: int, offset: int) -> Ack:
        self._known[event_id] = partition, offset
        while len(self._known) > KEPT_ACKS:
            self._known.popitem(last=False)  # a plain dict is searched from its old beginning
        return Ack(event_id, self._log.topic, partition, offset)

    def _open(self) -> None:
        self._log.open(self._scope, self._epoch)
        scopes = (ScopeEpoch(scope=self._scope, epoch=self._epoch),)
        opened = EpochOpened(node_id=self._node_id, scopes=scopes)
        self._log.append([self._mark(p, opened) for p in range(self._log.partitions)])

    def _mark(self, partition: int, data: Event) -> tuple[int, Envelope, Event]:
        seq = self._log.seqs[partition] + 1
        stamp, now = self._log.next_stamp(), self._clock.event_now()
        return partition, self._marker.envelope(partition, seq, stamp, now), data

    def _run(self) -> None:
        barrier_at = 0.0
        while not self._stop.is_set():
            with self._changed:
                if not self._queue:
                    self._changed.wait(0.1)
                items, self._queue = self._queue[:BATCH], self._queue[BATCH:]
                self._busy = bool(items)
                self._changed.notify_all()
            marks = time.monotonic() >= barrier_at
            if marks:
                barrier_at = time.monotonic() + BARRIER_S
            try:
                if items or marks:
                    self._batch(items, marks)
            except Exception as error:  # noqa: BLE001 - the user's `folded`: it must not go on
                self._ended = error
            if self._ended is not None:
                self._settle([(item, self._ended) for item in items])
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _batch(self, items: list[_Item], marks: bool) -> None:
        """One transaction: barriers when due, then the facts that are not in the log yet."""
        repeated = [item for item in items if item.event_id in self._known]
        fresh = [item for item in items if item.event_id not in self._known]
        self._settle([(i, self._remember(i.event_id, *self._known[i.event_id])) for i in repeated])
        facts: list[tuple[int, Envelope, Event]] = []
        acked: list[_Item | None] = []
        try:
            self._check()
            facts, acked = self._enveloped(fresh, marks)
            offsets = self._append(facts) if facts else []
        except Unavailable:
            self._settle([(item, _unknown(item.event_id)) for item in fresh])
            self._reopen()
        except EverlodeError as error:
            large = _too_large(facts, acked)
            if not large:
                self._ended = error
                return
            self._settle(large)  # nothing was written: a transaction is encoded before it begins
            refused = {item.event_id for item, _ in large}
            self._batch([item for item in fresh if item.event_id not in refused], marks)
        else:
            done: list[tuple[_Item, Ack | Exception]] = []
            for (partition, envelope, _), offset, of in zip(facts, offsets, acked, strict=True):
                if of is not None:
                    self._versions[of.key] = envelope.version
                    done.append((of, self._remember(of.event_id, partition, offset)))
            self._settle(done)
            for (_, envelope, data), of in zip(facts, acked, strict=True):
                if of is not None and self._tell is not None:
                    self._tell(Fact(envelope, data))

    def _append(self, facts: list[tuple[int, Envelope, Event]]) -> list[int]:
        try:
            return self._log.append(facts)
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
            self._log.watch(self._scope, self._epoch)
        except ForeignRecord as error:
            signals = SignalWriter(*self._place, self._clock)
            signals.foreign(error)
            signals.close()
            raise

    def _still_mine(self) -> bool:
        """Whether its node is said to hold this epoch; without a node nobody says so."""
        return self._leads is not None and self._leads(self._scope) == self._epoch

    def _settle(self, results: Sequence[tuple[_Item, Ack | Exception]]) -> None:
        """Give the items their results, but for those that have one."""
        with self._changed:
            open_ = [
                (item.future, result)
                for item, result in results
                if self._waiting.get(item.event_id) is item.future
            ]
            for item, _ in results:
                if self._waiting.get(item.event_id) is item.future:
                    del self._waiting[item.event_id]
        for future, result in open_:
            if not future.set_running_or_notify_cancel():
                continue
            if isinstance(result, Ack):
                future.set_result(result)
            else:
                future.set_exception(result)

    def _enveloped(
        self, items: list[_Item], marks: bool
    ) -> tuple[list[tuple[int, Envelope, Event]], list[_Item | None]]:
        facts: list[tuple[int, Envelope, Event]] = []
        acked: list[_Item | None] = []
        if marks:
            barrier = Barrier(writer_id=self._node_id)
            facts = [self._mark(p, barrier) for p in range(self._log.partitions)]
            acked = [None] * len(facts)
        seqs = [seq + marks for seq in self._log.seqs]
        versions: dict[str, int] = {}
        for item in items:
            partition = self._log.partition_of(item.key)
            seqs[partition] += 1
            version = versions.get(item.key, self._versions.get(item.key, 0)) + 1
            versions[item.key] = version
            facts.append((partition, self._envelope(item, version, seqs[partition]), item.data))
            acked.append(item)
        return facts, acked

    def _envelope(self, item: _Item, version: int, seq: int) -> Envelope:
        return Envelope(
            event_id=item.event_id,
            aggregate_id=item.key,
            version=version,
            origin=self._log.origin,
            scope=self._scope,
            epoch=self._epoch,
            seq=seq,
            stamp=self._log.next_stamp(item.cause.stamp if item.cause else 0),
            occurred_at=item.occurred_at,
            correlation_id=item.correlation_id,
            causation_id=item.cause.event_id if item.cause else None,
        )

    def _reopen(self) -> None:
        """Find out what really is in the log before going on."""
        while not self._stop.wait(0.5):
            try:
                if self._leads is not None and not self._still_mine():
                    raise FencedOut(f"{self._scope}: epoch {self._epoch} is not held now")
                self._open()
            except Unavailable:
                self._expire()
                continue
            except EverlodeError as error:
                self._ended = error
            return

    def _expire(self) -> None:
        """What has waited too long fails, so that its emitter can decide, and others get room."""
        oldest = time.monotonic() - self._timeout_s
        with self._changed:
            late = [item for item in self._queue if item.since < oldest]
            self._queue = [item for item in self._queue if item.since >= oldest]
            self._changed.notify_all()
        self._settle([(item, _unknown(item.event_id)) for item in late])
