"""Where things stand in a cluster: topics that exist, offsets by time. Shell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from everlode.adapters.kafka_admin import admin_client
from everlode.errors import Unavailable


class Bounds(NamedTuple):
    """First offset that is kept, and the offset after the last committed record."""

    first: int
    end: int


def topic_names(bootstrap: str) -> dict[str, int]:
    """Topic → number of partitions, without Kafka's own. Raises: Unavailable."""
    try:
        found = admin_client(bootstrap).list_topics(timeout=10).topics
    except KafkaException as error:
        raise Unavailable(f"topics of {bootstrap}: {error.args[0].str()}") from None
    return {name: len(t.partitions) for name, t in found.items() if not name.startswith("__")}


class Places:
    """Answers about offsets. Not thread-safe; close it."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "places",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )

    def bounds(self, topic: str, partition: int) -> Bounds:
        """Raises: Unavailable."""
        try:
            first, end = self._consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=15
            )
        except KafkaException as error:
            raise Unavailable(f"{topic}/{partition}: {error.args[0].str()}") from None
        return Bounds(first, end)

    def at(self, times_ms: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
        """(topic, partition) → offset of the first record at or after a time (its end, if none).

        Raises: Unavailable.
        """
        asked = [TopicPartition(t, p, max(0, ms)) for (t, p), ms in times_ms.items()]
        try:
            found = self._consumer.offsets_for_times(asked, timeout=15)
        except KafkaException as error:
            raise Unavailable(f"offsets by time: {error.args[0].str()}") from None
        return {
            (f.topic, f.partition): f.offset
            if f.offset >= 0
            else self.bounds(f.topic, f.partition).end
            for f in found
        }

    def close(self) -> None:
        """Leave."""
        self._consumer.close()
