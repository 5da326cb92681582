"""Which topics a cluster has. Shell."""

from __future__ import annotations

from confluent_kafka import KafkaException

from everlode.adapters.kafka_admin import admin_client
from everlode.errors import Unavailable


def topic_names(bootstrap: str) -> dict[str, int]:
    """Topic → number of partitions, without Kafka's own. Raises: Unavailable."""
    try:
        found = admin_client(bootstrap).list_topics(timeout=10).topics
    except KafkaException as error:
        raise Unavailable(f"topics of {bootstrap}: {error.args[0].str()}") from None
    return {name: len(t.partitions) for name, t in found.items() if not name.startswith("__")}
