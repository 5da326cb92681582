"""The producer of what needs no transaction: commands, answers, signals, dead letters. Shell."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Producer

from everlode.adapters.kafka import Record
from everlode.adapters.kafka_access import identified, new_client
from everlode.adapters.kafka_writer import MESSAGE_BYTES, send


class Sender:
    """An idempotent producer for commands, answers and signals. Thread-safe."""

    def __init__(self, bootstrap: str, *, linger_ms: int = 5, timeout_ms: int = 10_000) -> None:
        self._producer = new_client(
            Producer,
            {
                **identified(bootstrap),
                "acks": "all",
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": linger_ms,
                "message.max.bytes": MESSAGE_BYTES,
                "message.timeout.ms": timeout_ms,
                "compression.type": "lz4",
                "reconnect.backoff.max.ms": 1000,
                "queue.buffering.max.messages": 200_000,
            },
        )

    def send(self, record: Record, done: Any = None) -> None:
        """Queue a record; waits while the queue is full. `done(error or None, message)`.

        Raises: ContractError: it can never be written. Unavailable.
        """
        send(self._producer, record, done)
        self._producer.poll(0)

    def poll(self, timeout_s: float = 0) -> None:
        """Serve callbacks."""
        self._producer.poll(timeout_s)

    def flush(self, timeout_s: float) -> int:
        """Wait for what is queued; returns how many records are still under way."""
        return self._producer.flush(timeout_s)
