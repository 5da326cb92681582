"""Nodes whose clocks are wrong, as they have published it: `ClockSkew` on `<origin>.health`.

Shell: reads the topic's end once.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import NamedTuple

from everlode.adapters.kafka import Reader
from everlode.avro.codec import Codec
from everlode.errors import ContractError
from everlode.events.base import Fact
from everlode.events.health import ClockSkew
from everlode.settings.endpoints import Endpoints
from everlode.topics.names import fact_topic

RECENT = 1_000
"""Records of a region's health topic that are looked at."""
READ_S = 10.0


class Skew(NamedTuple):
    """A node whose clock was wrong when it was seen last."""

    node_id: str
    region: str
    finding: str
    """ClockSkew."""
    ahead_ms: int
    """Ahead of the network's clock; negative: behind."""
    leads: bool
    """False: it may lead nothing until its clock is right."""


def skews(endpoints: Endpoints, region: str) -> list[Skew]:
    """The nodes of a region whose last word is that their clock is wrong, by id.

    Raises: Unavailable: the region's Kafka does not answer.
    """
    place = endpoints.region(region)
    reader = Reader(place.kafka_bootstrap, f"skews-{uuid.uuid4()}", wait_ms=20)
    try:
        return skews_by(reader, place.origin)
    finally:
        reader.close()


def recent(reader: Reader, origin: str) -> Iterator[Fact]:
    """The last RECENT verdicts of a region, by a reader that is free. Raises: Unavailable."""
    place, codec = (fact_topic(origin, "health"), 0), Codec()
    ends = reader.ends([place])
    reader.assign({place: max(0, ends[place] - RECENT)})
    for batch in reader.until(ends, READ_S):
        for raw in batch:
            try:
                yield codec.decode_fact(raw.value)
            except ContractError:
                continue


def skews_by(reader: Reader, origin: str) -> list[Skew]:
    """As `skews`, by a reader of the region's cluster that is free. Raises: Unavailable."""
    last: dict[str, ClockSkew] = {}
    for envelope, data in recent(reader, origin):
        if isinstance(data, ClockSkew):
            last[envelope.aggregate_id] = data
    return [
        Skew(node, data.region, "ClockSkew", data.ahead_ms, data.leads)
        for node, data in sorted(last.items())
        if data.ahead_ms
    ]
