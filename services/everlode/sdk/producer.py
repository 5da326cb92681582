"""EventProducer: facts, for a program that holds a scope of its own.

Facts go out in transactions, batched by a thread of its own; `seq` and `stamp` are given here. An
`Ack` means committed. Shell.
"""

from __future__ import annotations

import queue
import threading
import uuid
from concurrent.futures import Future
from datetime import datetime
from typing import NamedTuple

from everlode.errors import EverlodeError, FencedOut, Unavailable
from everlode.events.base import Envelope, Event
from everlode.sdk.clock import WallClock
from everlode.sdk.facts import FactLog, Placed

BATCH = 1000


class Ack(NamedTuple):
    """A committed fact."""

    event_id: str
    topic: str
    partition: int
    offset: int


class Unknown(Unavailable):
    """The fact may or may not be in the log: emit it again with this `event_id` to be sure."""

    default_code = "unknown"

    def __init__(self, event_id: str) -> None:
        super().__init__(
            f"event {event_id} may or may not be in the log",
            hint="emit it again with the same event_id: it is appended once",
        )
        self.event_id = event_id


class _Item(NamedTuple):
    event_id: str
    key: str
    data: Event
    occurred_at: datetime
    correlation_id: str
    future: Future[Ack]


class EventProducer:
    """Appends facts of one component under one scope and epoch. Thread-safe.

    `version` is counted per aggregate from what the log holds. At most `window` facts wait; then
    `emit` waits (back-pressure). A second emit of an `event_id` that is in the log gives its
    first Ack again. When fenced, everything that waits fails with FencedOut and stays failed.
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
        window: int = 10_000,
    ) -> None:
        self._versions: dict[str, int] = {}
        self._known: dict[str, Ack] = {}
        self._log = FactLog(bootstrap, origin, component, partitions, self._folded)
        self._log.open()
        self._scope, self._epoch = scope, epoch
        self._clock = WallClock()
        self._queue: queue.Queue[_Item] = queue.Queue(window)
        self._stop = threading.Event()
        self._fenced: FencedOut | None = None
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
    ) -> Future[Ack]:
        """Queue a fact; the future gives its Ack, Unknown, or FencedOut.

        Raises: FencedOut: the scope is another's.
        """
        if self._fenced is not None:
            raise self._fenced
        item = _Item(
            event_id or str(uuid.uuid4()),
            key,
            data,
            occurred_at or self._clock.event_now(),
            correlation_id or key,
            Future(),
        )
        self._queue.put(item)
        return item.future

    def close(self) -> None:
        """Append what waits, then leave."""
        self._queue.join()
        self._stop.set()
        self._thread.join(15)
        self._log.close()

    def _folded(self, placed: Placed) -> None:
        envelope = placed.fact.envelope
        known = self._versions.get(envelope.aggregate_id, 0)
        self._versions[envelope.aggregate_id] = max(known, envelope.version)
        self._remember(envelope.event_id, placed.partition, placed.offset)

    def _remember(self, event_id: str, partition: int, offset: int) -> Ack:
        ack = Ack(event_id, self._log.topic, partition, offset)
        self._known[event_id] = ack
        while len(self._known) > 100_000:
            del self._known[next(iter(self._known))]
        return ack

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                items = [self._queue.get(timeout=0.1)]
            except queue.Empty:
                continue
            while len(items) < BATCH and not self._queue.empty():
                items.append(self._queue.get_nowait())
            self._batch(items)
            for _ in items:
                self._queue.task_done()

    def _batch(self, items: list[_Item]) -> None:
        if self._fenced is not None:
            for item in items:
                item.future.set_exception(self._fenced)
            return
        fresh = [i for i in items if i.event_id not in self._known]
        for item in items:
            if item.event_id in self._known:
                item.future.set_result(self._known[item.event_id])
        try:
            facts = self._enveloped(fresh)
            offsets = self._log.append(facts) if facts else []
        except FencedOut as error:
            self._fenced = error
            for item in fresh:
                item.future.set_exception(error)
            return
        except EverlodeError:
            self._unknown(fresh)
            return
        for item, (partition, envelope, _), offset in zip(fresh, facts, offsets, strict=True):
            self._versions[item.key] = envelope.version
            item.future.set_result(self._remember(item.event_id, partition, offset))

    def _enveloped(self, items: list[_Item]) -> list[tuple[int, Envelope, Event]]:
        seqs = list(self._log.seqs)
        versions: dict[str, int] = {}
        facts = []
        for item in items:
            partition = self._log.partition_of(item.key)
            seqs[partition] += 1
            version = versions.get(item.key, self._versions.get(item.key, 0)) + 1
            versions[item.key] = version
            envelope = Envelope(
                event_id=item.event_id,
                aggregate_id=item.key,
                version=version,
                origin=self._log.origin,
                scope=self._scope,
                epoch=self._epoch,
                seq=seqs[partition],
                stamp=self._log.next_stamp(),
                occurred_at=item.occurred_at,
                correlation_id=item.correlation_id,
            )
            facts.append((partition, envelope, item.data))
        return facts

    def _unknown(self, items: list[_Item]) -> None:
        """Say so to those that wait, and find out what really is in the log before going on."""
        for item in items:
            item.future.set_exception(Unknown(item.event_id))
        while not self._stop.wait(0.5):
            try:
                self._log.open()
            except FencedOut as error:
                self._fenced = error
                return
            except Unavailable:
                continue
            return
