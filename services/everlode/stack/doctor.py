"""Is a running stack as its topology says? Topics against the catalogue, every mirror flow,
transactions that somebody left open, and who retention comes near.

Shell: asks every cluster and database.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from everlode.adapters.kafka_admin import Drift, diff_topics, state_generations
from everlode.adapters.kafka_transactions import OpenTransaction, open_transactions
from everlode.adapters.mirror_lag import PartitionLag, flow_lag
from everlode.adapters.mirror_status import FlowState, flow_state
from everlode.errors import EverlodeError, Unavailable
from everlode.settings.endpoints import Endpoints, RegionEndpoints
from everlode.stack.retention import (
    Late,
    Positions,
    groups_of,
    late_readers,
    projector_of,
    writers_of,
)
from everlode.topics import TopicSpec, Topology, catalogue, mirrored_topics

STILL_S = 10.0
"""A flow that is behind copies within this, or stands still; it commits with each copied batch."""


OPEN_S = 35.0
"""A transaction of ours ends within 30 s, by itself or by the broker."""


class Diagnosis(NamedTuple):
    """What was found. Green when there is nothing to name."""

    topics_checked: int
    drifts: tuple[Drift, ...]
    flows: tuple[FlowState, ...]
    lags: tuple[PartitionLag, ...]
    """By flow, topic and partition; shown, never a difference."""
    held: tuple[OpenTransaction, ...]
    """Open for longer than any of ours may be: readers of committed records wait for them."""
    unreachable: dict[str, str]
    """Cluster, or `<region>/postgres` → why it could not be asked."""
    late: tuple[Late, ...] = ()
    """Readers that retention comes near."""

    @property
    def green(self) -> bool:
        """True when everything was asked and everything is right."""
        flows_run = all(flow.runs for flow in self.flows)
        return flows_run and not (self.drifts or self.held or self.unreachable or self.late)


def examine(topology: Topology, endpoints: Endpoints) -> Diagnosis:
    """Compare every topic in every cluster with the catalogue, and ask for every flow's state.

    A cluster that does not answer is named in `unreachable`; the others are examined all the same.
    """
    bootstraps = {name: region.kafka_bootstrap for name, region in endpoints.regions.items()}
    if endpoints.control_bootstrap is not None:
        bootstraps["control"] = endpoints.control_bootstrap
    with ThreadPoolExecutor(len(bootstraps)) as pool:
        results = list(
            pool.map(
                lambda cluster: _cluster(topology, cluster, bootstraps[cluster], endpoints),
                bootstraps,
            )
        )
    unreachable = {n: r.why for n, r in zip(bootstraps, results, strict=True) if r.why}
    lags = tuple(lag for result in results for lag in result.lags)
    return Diagnosis(
        sum(result.topics for result in results),
        tuple(drift for result in results for drift in result.drifts),
        tuple(flow for result in results for flow in result.flows),
        lags,
        tuple(held for result in results for held in result.held),
        unreachable,
        tuple(
            late
            for region in endpoints.regions
            if region not in unreachable
            for late in _late(
                region, endpoints.regions[region], topology.partitions, lags, unreachable
            )
        ),
    )


def _late(
    region: str,
    place: RegionEndpoints,
    partitions: int,
    lags: Iterable[PartitionLag],
    unreachable: dict[str, str],
) -> list[Late]:
    """Readers of a region's cluster; notes in `unreachable` what does not answer."""
    readers: dict[str, dict[tuple[str, int], int]] = {}
    for lag in lags:
        if lag.source == region:
            positions = readers.setdefault(f"mirror {lag.source} → {lag.target}", {})
            positions[lag.topic, lag.partition] = lag.next_offset
    found: dict[str, Positions] = {**readers}
    asked = f"{region}/postgres"
    try:
        found |= projector_of(region, place.postgres_conninfo())
    except EverlodeError as exc:
        unreachable[asked] = exc.message
    try:
        found |= groups_of(place.kafka_bootstrap)
        found |= writers_of(region, place, partitions, found)
        return late_readers(region, place.kafka_bootstrap, found)
    except EverlodeError as exc:
        unreachable[region] = exc.message
        return []


class _Examined(NamedTuple):
    topics: int = 0
    drifts: list[Drift] = []  # noqa: RUF012
    flows: list[FlowState] = []  # noqa: RUF012
    lags: list[PartitionLag] = []  # noqa: RUF012
    held: list[OpenTransaction] = []  # noqa: RUF012
    why: str = ""


def _cluster(topology: Topology, cluster: str, bootstrap: str, endpoints: Endpoints) -> _Examined:
    try:
        specs = _specs(topology, cluster, state_generations(bootstrap))
        drifts = diff_topics(bootstrap, specs)
        held = _held(cluster, bootstrap, specs, drifts)
        flows: list[FlowState] = []
        lags: list[PartitionLag] = []
        for source in _sources(cluster, endpoints):
            ask = partial(_lags, topology, endpoints, source, cluster)
            state, behind = flow_state(bootstrap, source, cluster), ask()
            if state.runs and _stands_still(behind, ask):
                state = state._replace(stands_still=True)
            flows.append(state)
            lags += behind
    except EverlodeError as exc:
        return _Examined(why=exc.message)
    return _Examined(len(specs), drifts, flows, lags, held)


def _held(
    cluster: str, bootstrap: str, specs: Iterable[TopicSpec], drifts: Iterable[Drift]
) -> list[OpenTransaction]:
    """Of the topics that are there, in the partitions that they must have."""
    differing = {drift.topic for drift in drifts}
    places = [(s.name, p) for s in specs if s.name not in differing for p in range(s.partitions)]
    found = open_transactions(bootstrap, places, OPEN_S)
    return [one._replace(cluster=cluster) for one in found]


def _sources(target: str, endpoints: Endpoints) -> list[str]:
    region = endpoints.regions.get(target)
    if region is None or region.mirror_rest is None:
        return []
    return [source for source in endpoints.regions if source != target]


def _lags(topology: Topology, endpoints: Endpoints, source: str, target: str) -> list[PartitionLag]:
    """Empty when the source does not answer: it is named in `unreachable`, as a cluster."""
    bootstraps = {name: region.kafka_bootstrap for name, region in endpoints.regions.items()}
    try:
        return flow_lag(bootstraps, source, target, mirrored_topics(topology, source))
    except Unavailable:
        return []


def _stands_still(behind: list[PartitionLag], ask: Callable[[], list[PartitionLag]]) -> bool:
    """True when a flow that is behind copies nothing for `STILL_S`."""
    copied = {(lag.topic, lag.partition): lag.next_offset for lag in behind if lag.records}
    deadline = time.monotonic() + STILL_S
    while copied and time.monotonic() < deadline:
        time.sleep(0.5)
        now = {(lag.topic, lag.partition): lag.next_offset for lag in ask()}
        if not now or any(now.get(place, 0) > offset for place, offset in copied.items()):
            return False
    return bool(copied)


def _specs(topology: Topology, cluster: str, generations: tuple[int, ...]) -> tuple[TopicSpec, ...]:
    """All topics that a cluster must have: the states of each generation that it has begun."""
    specs = {
        spec.name: spec
        for generation in generations or (1,)
        for spec in catalogue(topology, generation)
        if spec.cluster == cluster
    }
    return tuple(specs.values())
