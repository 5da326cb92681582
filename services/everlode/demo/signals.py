"""What the signal topics of all regions say. Shell."""

from __future__ import annotations

from typing import Any

from everlode.adapters.kafka import Reader
from everlode.avro.codec import Codec
from everlode.settings.endpoints import Endpoints
from everlode.topics.names import fact_topic

Signal = tuple[str, dict[str, Any]]
"""Type and values of a record."""


def signals(endpoints: Endpoints, component: str) -> list[Signal]:
    """All records of a signal topic of every origin, each in its order. Raises: Unavailable."""
    codec = Codec()
    found = []
    for place in endpoints.regions.values():
        topic = (fact_topic(place.origin, component), 0)
        reader = Reader(place.kafka_bootstrap, "report", wait_ms=20)
        for batch in reader.to_ends({topic: 0}, 30):
            found += [codec.decode_dict(raw.value) for raw in batch]
        reader.close()
    return found
