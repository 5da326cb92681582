"""The peers of `emit`: confluent-kafka's own producers, every record acknowledged."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Producer, SerializingProducer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import StringSerializer

from everlode.avro import schemas
from everlode.events.base import Fact

SETTINGS = {
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": 2,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 1_000_000,
    "log_level": 0,
}


class Counter:
    """Counts acknowledgements; any error ends the measurement."""

    def __init__(self) -> None:
        self.acked = 0

    def __call__(self, error: Any, _: Any) -> None:
        if error is not None:
            raise RuntimeError(str(error))
        self.acked += 1


def serializing_producer(bootstrap: str, topic: str, facts: Sequence[Fact]) -> float:
    """Events a second: a registry in memory, the schema of ours, envelope and all."""
    registry = SchemaRegistryClient.new_client({"url": "mock://emit"})
    schema = json.dumps(schemas.raw("TaskProgressed"))

    def to_dict(fact: Fact, _: Any) -> dict[str, Any]:
        return {"envelope": fact.envelope.model_dump(), **fact.data.model_dump()}

    producer = SerializingProducer(
        {
            **SETTINGS,
            "bootstrap.servers": bootstrap,
            "key.serializer": StringSerializer(),
            "value.serializer": AvroSerializer(registry, schema, to_dict),
        }
    )
    counter = Counter()
    began = time.perf_counter()
    for fact in facts:
        producer.produce(topic, fact.envelope.aggregate_id, fact, on_delivery=counter)
        producer.poll(0)
    producer.flush(120)
    took = time.perf_counter() - began
    assert counter.acked == len(facts)
    return len(facts) / took


def raw_producer(bootstrap: str, topic: str, blobs: Sequence[tuple[str, bytes]]) -> float:
    """Events a second: bytes that are ready."""
    producer = Producer({**SETTINGS, "bootstrap.servers": bootstrap})
    counter = Counter()
    began = time.perf_counter()
    for key, blob in blobs:
        producer.produce(topic, blob, key, on_delivery=counter)
        producer.poll(0)
    producer.flush(120)
    took = time.perf_counter() - began
    assert counter.acked == len(blobs)
    return len(blobs) / took
