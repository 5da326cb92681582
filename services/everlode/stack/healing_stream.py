"""What is healed, published on the recovery stream of the region that it belongs to.

A region's broker is itself among what is healed: an event waits here until the broker has
acknowledged it, under one id, so that a repeat is the same event. What belongs to no region (the
control nodes, the object store) is published in the topology's first region. Shell: Kafka.
"""

from __future__ import annotations

import queue
import threading
import uuid
from typing import Any, NamedTuple

from everlode.adapters.clock import WallClock
from everlode.events.base import Event
from everlode.log.signals import SignalWriter
from everlode.settings.endpoints import Endpoints

AGAIN_S = 1.0
SENT_S = 15.0
"""Longer than a sender tries: until then its outcome is known."""


class _Due(NamedTuple):
    region: str
    name: str
    event: Event
    event_id: str


class HealingStream:
    """Publishes from a thread of its own, in order; `close` it."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._due: queue.SimpleQueue[_Due | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._writers: dict[str, SignalWriter] = {}
        self._thread = threading.Thread(target=self._run, name="healing-stream", daemon=True)
        self._thread.start()

    def publish(self, name: str, event: Event) -> None:
        """Queue an event about a process of the stack, e.g. eu/kafka."""
        first, _, part = name.partition("/")
        regions = tuple(self._endpoints.regions)
        region = first if part and first in regions else regions[0]
        self._due.put(_Due(region, name, event, str(uuid.uuid4())))

    def close(self, within_s: float = 2.0) -> None:
        """Give what is queued a last chance; the rest is in the book and the log only."""
        self._due.put(None)
        self._thread.join(within_s)
        self._closed.set()

    def _run(self) -> None:
        while (due := self._due.get()) is not None:
            while not self._closed.is_set() and not self._sent(due):
                self._closed.wait(AGAIN_S)

    def _sent(self, due: _Due) -> bool:
        place = self._endpoints.regions[due.region]
        if due.region not in self._writers:
            writer = SignalWriter(place.kafka_bootstrap, place.origin, WallClock())
            self._writers[due.region] = writer
        outcome: list[Any] = []
        writer = self._writers[due.region]
        writer.signal(
            due.event, topic="recovery", key=due.name, partition=0, event_id=due.event_id,
            done=lambda error, _message: outcome.append(error),
        )  # fmt: skip
        writer.flush(SENT_S)
        return bool(outcome) and outcome[0] is None  # a KafkaError must not be compared with None
