"""SignalWriter: signals of an origin (heartbeats, health, recovery …); not waited for. Shell."""

from __future__ import annotations

import threading
import uuid
from typing import Any

from everlode.adapters.clock import Clock
from everlode.adapters.kafka import Record
from everlode.adapters.kafka_sender import Sender
from everlode.avro.signals import Head, Now, SignalMaker
from everlode.events.base import Event
from everlode.log.facts import ForeignRecord
from everlode.topics.names import fact_topic


class SignalWriter:
    """Writes signals of one origin. Thread-safe. `seq` counts this writer's signals."""

    def __init__(self, bootstrap: str, origin: str, clock: Clock, *, linger_ms: int = 5) -> None:
        self._sender = Sender(bootstrap, linger_ms=linger_ms)
        self._origin = origin
        self._clock = clock
        self._maker = SignalMaker(origin)
        self._guard = threading.Lock()

    def signal(
        self,
        data: Event,
        *,
        topic: str,
        key: str,
        partition: int,
        event_id: str | None = None,
        done: Any = None,
    ) -> None:
        """Queue a signal. `done(error or None, message)` once its outcome is known."""
        now = Now(self._clock.wall_ms(), self._clock.event_now())
        with self._guard:
            made = self._maker.make(Head(key, event_id or str(uuid.uuid4())), data, now)
        where = fact_topic(self._origin, topic)
        self._sender.send(Record(where, partition, key, made.value, made.headers), done)

    def foreign(self, error: ForeignRecord) -> None:
        """Publish a record that its topic's one writer did not write; each time the same event."""
        self.signal(
            error.found,
            topic="health",
            key=error.found.scope_name,
            partition=0,
            event_id=f"foreign/{error.place}",
        )

    def flush(self, timeout_s: float) -> int:
        """Wait for what is queued; returns how many signals are still under way."""
        return self._sender.flush(timeout_s)

    def close(self, timeout_s: float = 5) -> None:
        """Wait shortly for what is queued."""
        self._sender.flush(timeout_s)
