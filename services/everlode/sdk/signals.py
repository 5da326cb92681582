"""SignalWriter: signals of an origin (heartbeats, health, recovery …); not waited for. Shell."""

from __future__ import annotations

import threading
import uuid

from everlode.adapters.kafka import Record, Sender
from everlode.avro.cloudevents import event_headers
from everlode.avro.codec import encode_fact
from everlode.events.base import Envelope, Event
from everlode.events.stamp import HybridClock
from everlode.sdk.clock import Clock
from everlode.topics.names import fact_topic


class SignalWriter:
    """Writes signals of one origin. Thread-safe. `seq` counts this writer's signals."""

    def __init__(self, bootstrap: str, origin: str, clock: Clock) -> None:
        self._sender = Sender(bootstrap, linger_ms=5)
        self._origin = origin
        self._clock = clock
        self._stamps = HybridClock()
        self._guard = threading.Lock()
        self._seq = 0

    def signal(
        self, data: Event, *, topic: str, key: str, partition: int, event_id: str | None = None
    ) -> None:
        """Queue a signal."""
        with self._guard:
            self._seq += 1
            seq, stamp = self._seq, self._stamps.next(self._clock.wall_ms())
        envelope = Envelope(
            event_id=event_id or str(uuid.uuid4()),
            aggregate_id=key,
            version=0,
            origin=self._origin,
            scope="",
            epoch=0,
            seq=seq,
            stamp=stamp,
            occurred_at=self._clock.event_now(),
            correlation_id=key,
        )
        self._sender.send(
            Record(
                fact_topic(self._origin, topic),
                partition,
                key,
                encode_fact(envelope, data),
                event_headers(envelope, type(data).__name__),
            )
        )

    def close(self) -> None:
        """Wait shortly for what is queued."""
        self._sender.flush(5)
