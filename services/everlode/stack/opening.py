"""Topics and buckets, made and checked through a network's endpoints, whoever started its parts.

Invariants: what is there is never changed: a difference is an error; a topic that a database has
positions for is not made again. Shell: asks every cluster, database and the object store.
"""

from __future__ import annotations

import time

from everlode.adapters.kafka_admin import await_brokers, missing_topics, state_generations
from everlode.adapters.kafka_topics import ensure_topics
from everlode.adapters.s3_buckets import ensure_buckets
from everlode.settings.endpoints import Endpoints
from everlode.stack.lost import require_topics
from everlode.telemetry.entries import PartReady
from everlode.telemetry.sink import Sink, silent
from everlode.topics import TopicSpec, Topology, catalogue

CONTROL = "control"


def wanted_topics(topology: Topology, cluster: str, bootstrap: str) -> list[TopicSpec]:
    """What a cluster must have, with the states of the generation that lives in it.

    Raises: Unavailable: it does not answer.
    """
    # after a recovery the living generation is not the first one, which must stay gone
    generation = max(state_generations(bootstrap), default=1)
    return [spec for spec in catalogue(topology, generation) if spec.cluster == cluster]


def open_network(endpoints: Endpoints, deadline: float, report: Sink = silent) -> list[str]:
    """Make the topics and buckets that are missing, check all; gives the topics made, by cluster.

    `deadline` by time.monotonic(). Idempotent. Raises: DeadlineExceeded, Unavailable: a part does
    not answer in time. ConfigError: a topic is there and differs; a store refuses our keys.
    IntegrityError: a topic is gone that a database has positions for.
    """
    topology, began = endpoints.topology, time.monotonic()
    clusters = {name: place.kafka_bootstrap for name, place in endpoints.regions.items()}
    if endpoints.control_bootstrap is not None:
        clusters[CONTROL] = endpoints.control_bootstrap
    made: list[str] = []
    for cluster, bootstrap in clusters.items():
        nodes = topology.control_replication if cluster == CONTROL else topology.replication
        await_brokers(bootstrap, nodes, deadline)
        wanted = wanted_topics(topology, cluster, bootstrap)
        if cluster != CONTROL and missing_topics(bootstrap, [spec.name for spec in wanted]):
            conninfo = endpoints.regions[cluster].postgres_conninfo()
            require_topics(cluster, topology, bootstrap, conninfo)
        created = ensure_topics(bootstrap, wanted)
        made += [f"{cluster}: {name}" for name in created]
        detail = f"{len(created)} created" if created else ""
        report(PartReady(f"{cluster} topics", time.monotonic() - began, detail))
    store = endpoints.s3
    if store is not None:
        ensure_buckets(
            store.endpoint, store.keys(), store.buckets,
            lockable=store.server == "minio", deadline=deadline,
        )  # fmt: skip
        report(PartReady("s3 buckets", time.monotonic() - began))
    return made
