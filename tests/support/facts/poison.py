"""Records that do not belong, for tests of whoever reads a topic."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from confluent_kafka import Producer

Pair = tuple[bytes | None, bytes | None]
"""Key and value."""

BYTES = {
    "random_bytes": "not_avro",
    "truncated": "broken",
    "unknown_schema": "unknown_schema",
    "null_value": "not_avro",
}
"""Damage of a value → code of its error."""
KEYS = {"null_key": "null_key", "wrong_key": "wrong_key"}
"""Damage of a key → code of its error."""


def spoil(damage: str, key: str, value: bytes) -> Pair:
    """A good record, spoiled."""
    made: dict[str, Pair] = {
        "random_bytes": (key.encode(), random.Random(1).randbytes(200)),
        "truncated": (key.encode(), value[:-3]),
        "unknown_schema": (key.encode(), value[:2] + bytes(8) + value[10:]),
        "null_value": (key.encode(), None),
        "null_key": (None, value),
        "wrong_key": (b"another", value),
    }
    return made[damage]


@contextmanager
def mock_broker() -> Iterator[str]:
    """Bootstrap address of librdkafka's mock broker; it makes topics when they are asked for."""
    holder = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    found = holder.list_topics("control", timeout=10).brokers
    yield ",".join(f"{b.host}:{b.port}" for b in found.values())
    holder.flush(1)


def append(bootstrap: str, topic: str, records: Iterable[Pair], partition: int = 0) -> None:
    """Append records, whatever they are, and wait until they are there."""
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
    producer.list_topics(topic, timeout=10)
    for key, value in records:
        producer.produce(topic, key=key, value=value, partition=partition)
    assert producer.flush(20) == 0
