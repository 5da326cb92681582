"""Fact logs as other clusters hold them, and logs that lost something, for tests of recoveries."""

from __future__ import annotations

from collections.abc import Sequence

from everlode.adapters.kafka import Raw, Record
from everlode.adapters.kafka_topics import delete_topics, ensure_topics
from everlode.adapters.kafka_writer import Writer
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.settings.endpoints import Endpoints
from everlode.topics import catalogue
from everlode.topics.names import fact_topic
from tests.support.facts.whole_topic import records
from tests.support.world.backed import TOPOLOGY, Backed


def log(region: Backed, component: str) -> list[Raw]:
    """All that the region's own log of a component has, by partition."""
    return records(region.bootstrap, fact_topic("eu.1", component), TOPOLOGY.partitions)


def make_anew(bootstrap: str, component: str, raws: Sequence[Raw]) -> None:
    """A log of `eu.1` made again under its name, with these records and nothing else."""
    topic = fact_topic("eu.1", component)
    delete_topics(bootstrap, [topic])
    ensure_topics(bootstrap, [spec for spec in catalogue(TOPOLOGY) if spec.name == topic])
    writer = Writer(bootstrap, f"{component}.eu.1")
    writer.open()
    if raws:
        writer.write([Record(topic, r.partition, r.key, r.value, r.headers) for r in raws])
    writer.abandon()


def with_copies(region: Backed) -> Endpoints:
    """The region's endpoints with those of another one, `us`, that holds copies of all its logs.

    Its cluster is the control log's: one of its own would cost each test seconds, and be no other
    to who reads it.
    """
    eu, control = region.endpoints.regions["eu"], region.endpoints.control_bootstrap
    assert control is not None
    for component in FACT_COMPONENTS:
        make_anew(control, component, log(region, component))
    us = eu.model_copy(update={"kafka_bootstrap": control, "origin": "us.1"})
    return region.endpoints.model_copy(update={"regions": {"eu": eu, "us": us}})
