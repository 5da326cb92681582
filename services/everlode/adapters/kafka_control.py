"""Appending to the control log on Kafka.

Invariants: an append returns once a majority of the control nodes holds it; after an indefinite
error it may still land, which the fold is made for. Shell.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable

from confluent_kafka import KafkaError, Message, Producer

from everlode.adapters.clock import Clock, WallClock, instant
from everlode.adapters.kafka import Record
from everlode.adapters.kafka_access import explained, identified, new_client
from everlode.adapters.kafka_writer import send
from everlode.avro.signals import Head, Now, SignalMaker
from everlode.control.fold import ControlState
from everlode.control.keys import lease_of, record_key
from everlode.control.snapshot import to_bytes
from everlode.errors import EverlodeError, Unavailable
from everlode.events.base import Event
from everlode.events.control import LeaseRenewed
from everlode.topics.names import CONTROL_SNAPSHOT_TOPIC, CONTROL_TOPIC

APPEND_TIMEOUT_MS = 8_000


class ControlLog:
    """Appends to the control log. Thread-safe.

    `occurred_at` of a record is what its writer's wall clock showed, also when event time is paced.
    """

    def __init__(self, bootstrap: str, clock: Clock | None = None) -> None:
        self._clock = clock or WallClock()
        self._bootstrap = bootstrap
        self._failed: KafkaError | None = None
        """Why the last record that failed did."""
        self._producer = new_client(
            Producer,
            {
                **identified(bootstrap),
                "acks": "all",
                "enable.idempotence": True,
                "message.timeout.ms": APPEND_TIMEOUT_MS,
                "linger.ms": 0,
                "socket.keepalive.enable": True,
                "reconnect.backoff.max.ms": 1000,
            },
        )
        self._maker = SignalMaker("control")
        self._guard = threading.Lock()
        self._renewals = Counter[str]()
        """Lease → renewals of it that were sent."""

    def append_async(
        self,
        subject: str,
        data: Event,
        *,
        node_id: str,
        scope: str = "",
        epoch: int = 0,
        done: Callable[[int | None], None] | None = None,
    ) -> str:
        """Send a record and return its event id at once; `done` gets its offset, or None.

        `subject`: the scope, node or region that it is about. `scope` is the one under which the
        writer speaks, e.g. coordinator/eu. Callbacks run in `poll` or `flush`.
        """
        event_id = str(uuid.uuid4())
        with self._guard:
            wall_ms = self._clock.wall_ms()
            now = Now(wall_ms, instant(wall_ms))
            number = self._number(data)
            key = record_key(subject, event_id, data, number)
            first = number == 1  # of a lease: its primary waits for it, and may not act before
            made = self._maker.make(Head(key, event_id, scope, epoch, node_id, first), data, now)

        def delivered(error: KafkaError | None, message: Message) -> None:
            self._failed = error or self._failed
            if done is not None:
                done(None if error else message.offset())

        record = Record(CONTROL_TOPIC, 0, key, made.value, [*made.headers])
        send(self._producer, record, delivered)
        self._producer.poll(0)
        return event_id

    def _number(self, data: Event) -> int:
        """Of a renewal among those of its lease."""
        if not isinstance(data, LeaseRenewed):
            return 0
        self._renewals[lease_of(data)] += 1
        return self._renewals[lease_of(data)]

    def append(
        self, subject: str, data: Event, *, node_id: str, scope: str = "", epoch: int = 0
    ) -> int:
        """Append and return the offset once a majority holds the record.

        Raises: Unavailable: not acknowledged within 8 s; it may still land. Refusal, ConfigError:
        this process may not, or is not let in.
        """
        result: list[int | None] = []
        self.append_async(
            subject, data, node_id=node_id, scope=scope, epoch=epoch, done=result.append
        )
        deadline = time.monotonic() + APPEND_TIMEOUT_MS / 1000 + 1
        while not result and time.monotonic() < deadline:
            self._producer.poll(0.05)
        if not result or result[0] is None:
            raise self._unacknowledged(type(data).__name__)
        return result[0]

    def _unacknowledged(self, kind: str) -> EverlodeError:
        what = f"the control log did not acknowledge {kind}"
        told = self._failed and explained(self._failed, self._bootstrap, what)
        return told or Unavailable(
            what,
            code="control_unavailable",
            hint="a majority of the control nodes must run: everlode stack status",
        )

    def keep(self, state: ControlState) -> None:
        """Write a snapshot of the fold; whoever starts reads it. Does not wait for it.

        Raises: ContractError: it is too large for a record. Unavailable.
        """
        record = Record(CONTROL_SNAPSHOT_TOPIC, 0, "state", to_bytes(state), [])
        send(self._producer, record, None)
        self._producer.poll(0)

    def poll(self) -> None:
        """Serve delivery callbacks."""
        self._producer.poll(0)

    def close(self) -> None:
        """Wait shortly for what is under way."""
        self._producer.flush(2)
