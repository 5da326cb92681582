"""The one catalogue of topics: what exists where, and with which settings.

Every region's cluster holds the facts and signals of every origin (its own and mirrors), its own
commands and replies, its own states and dead letters. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from everlode.events.catalogue import FACT_COMPONENTS, SIGNALS, STATE_COMPONENTS
from everlode.topics.names import (
    CONTROL_CLUSTER,
    CONTROL_SNAPSHOT_TOPIC,
    CONTROL_TOPIC,
    archive_topic,
    command_topic,
    dead_letter_topic,
    fact_topic,
    reply_topic,
    snapshot_topic,
    state_topic,
    work_topic,
)
from everlode.topics.topology import Topology

ONE_PARTITION = frozenset({"health", "recovery", "receipts", "schemas"})
DEAD_LETTER_CONSUMERS = {
    "projector": (*FACT_COMPONENTS, "heartbeats"),
    "primary": FACT_COMPONENTS,
    "detector": ("heartbeats",),
    "coordinator": (*FACT_COMPONENTS, "heartbeats", "health", "recovery"),
}
"""Consumer → components whose topics it reads; primaries have theirs for commands besides.

A coordinator reads those of its own region only, and is alone with those of one partition.
"""


_SOON = {
    "min.cleanable.dirty.ratio": "0.1",
    "segment.ms": "300000",
    "segment.bytes": "16777216",
}
"""Of compacted topics that are read whole at a start."""


class TopicSpec(NamedTuple):
    """A topic as it must be. `configs` are the topic-level settings that are checked."""

    name: str
    cluster: str
    partitions: int
    replication: int
    min_insync: int
    cleanup: str
    retention_ms: int
    configs: dict[str, str]
    mirrored: bool
    owner: str
    older: dict[str, str] | None = None
    """Settings of a topic that an older build has made: as good, but never to be altered."""


def catalogue(topology: Topology, generation: int = 1) -> tuple[TopicSpec, ...]:
    """All topics of all clusters, by cluster and name."""
    specs = [
        _control_log(topology),
        _control(topology, CONTROL_SNAPSHOT_TOPIC, "compact"),
    ]
    for region in topology.regions:
        specs.extend(_region(topology, region))
        specs.extend(state_topics(topology, region, generation))
    return tuple(sorted(specs, key=lambda s: (s.cluster, s.name)))


def fact_topics(topology: Topology) -> list[str]:
    """All fact topics of all origins, in a fixed order."""
    return [fact_topic(o, c) for o in topology.origins for c in FACT_COMPONENTS]


def mirrored_topics(topology: Topology, source: str) -> tuple[str, ...]:
    """Topics that other regions copy from region `source`: its own, never a pattern."""
    origin = topology.origin(source)
    return tuple(fact_topic(origin, c) for c in (*FACT_COMPONENTS, *SIGNALS))


def state_topics(topology: Topology, region: str, generation: int) -> list[TopicSpec]:
    """State topics of one generation in one region."""
    extra = {
        "min.compaction.lag.ms": str(topology.min_compaction_lag_ms),
        "min.cleanable.dirty.ratio": "0.1",
    }
    return [
        _spec(
            topology,
            region,
            state_topic(generation, c),
            topology.partitions,
            "projector",
            cleanup="compact",
            retention_ms=-1,
            extra=extra,
        )
        for c in STATE_COMPONENTS
    ]


def _snapshots(topology: Topology, region: str) -> list[TopicSpec]:
    """Snapshots and archives of a region's own fact topics.

    Compacted soon, so that a start is short; tombstones outlive the longest read of a snapshot.
    """
    extra = {**_SOON, "delete.retention.ms": "600000"}
    origin = topology.origin(region)
    return [
        _spec(
            topology, region, name(origin, component), topology.partitions, component,
            cleanup="compact", retention_ms=-1, extra=extra,
        )
        for component in FACT_COMPONENTS
        for name in (snapshot_topic, archive_topic)
    ]  # fmt: skip


def _work(topology: Topology, region: str) -> TopicSpec:
    """What each miner has. Who sleeps for less than a day misses no end of an assignment."""
    extra = {**_SOON, "delete.retention.ms": "86400000"}
    return _spec(
        topology, region, work_topic(topology.origin(region)), topology.partitions, "tasks",
        cleanup="compact", retention_ms=-1, extra=extra,
    )  # fmt: skip


def _spec(
    topology: Topology,
    cluster: str,
    name: str,
    partitions: int,
    owner: str,
    *,
    cleanup: str = "delete",
    retention_ms: int | None = None,
    mirrored: bool = False,
    extra: dict[str, str] | None = None,
) -> TopicSpec:
    retention = topology.retention_ms if retention_ms is None else retention_ms
    configs = {
        "cleanup.policy": cleanup,
        "retention.ms": str(retention),
        "min.insync.replicas": str(topology.min_insync),
        "unclean.leader.election.enable": "false",
        **(extra or {}),
    }
    return TopicSpec(
        name,
        cluster,
        partitions,
        topology.replication,
        topology.min_insync,
        cleanup,
        retention,
        configs,
        mirrored,
        owner,
    )


def _control_log(topology: Topology) -> TopicSpec:
    """What happened stays, of a lease's renewals the last (see `control.keys`).

    Records of an hour are left alone, so nobody who follows it misses one. A topic of an older
    build keeps all: its records share keys, and compaction would leave decisions out.
    """
    extra = {
        "min.cleanable.dirty.ratio": "0.1",
        "min.compaction.lag.ms": "3600000",
        "segment.ms": "600000",
        "segment.bytes": "16777216",
    }
    spec = _control(topology, CONTROL_TOPIC, "compact", extra)
    return spec._replace(older=_control(topology, CONTROL_TOPIC, "delete").configs)


def _control(
    topology: Topology, name: str, cleanup: str, extra: dict[str, str] | None = None
) -> TopicSpec:
    configs = {
        "cleanup.policy": cleanup,
        "retention.ms": "-1",
        "min.insync.replicas": str(topology.control_min_insync),
        "unclean.leader.election.enable": "false",
        **(extra or {}),
    }
    return TopicSpec(
        name,
        CONTROL_CLUSTER,
        1,
        topology.control_replication,
        topology.control_min_insync,
        cleanup,
        -1,
        configs,
        False,
        "coordinator",
    )


def _region(topology: Topology, region: str) -> list[TopicSpec]:
    n = topology.partitions
    specs = []
    for origin_region in topology.regions:
        origin = topology.origin(origin_region)
        home = origin_region == region
        for component in (*FACT_COMPONENTS, *SIGNALS):
            parts = 1 if component in ONE_PARTITION else n
            keep = -1 if component == "schemas" else None
            owner = component if home else f"mirror from {origin_region}"
            specs.append(
                _spec(
                    topology,
                    region,
                    fact_topic(origin, component),
                    parts,
                    owner,
                    retention_ms=keep,
                    mirrored=home,
                )
            )
        for consumer, components in DEAD_LETTER_CONSUMERS.items():
            if consumer == "coordinator" and not home:
                continue
            for component in components:
                name = dead_letter_topic(consumer, fact_topic(origin, component))
                specs.append(_spec(topology, region, name, 1, consumer))
    for component in FACT_COMPONENTS:
        name = command_topic(region, component)
        specs.append(_spec(topology, region, name, n, "clients"))
        specs.append(_spec(topology, region, dead_letter_topic("primary", name), 1, component))
    specs.append(_spec(topology, region, reply_topic(region), n, "primaries"))
    specs.extend(_snapshots(topology, region))
    specs.append(_work(topology, region))
    return specs
