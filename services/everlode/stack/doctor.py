"""Is a running stack as its topology says? Topics against the catalogue, and every mirror flow.

Shell: asks every cluster.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from everlode.adapters.kafka_admin import Drift, diff_topics
from everlode.adapters.mirror_status import FlowState, flow_state
from everlode.errors import EverlodeError
from everlode.stack.endpoints import Endpoints
from everlode.topics import TopicSpec, Topology, catalogue


class Diagnosis(NamedTuple):
    """What was found. Green when there is nothing to name."""

    topics_checked: int
    drifts: tuple[Drift, ...]
    flows: tuple[FlowState, ...]
    unreachable: dict[str, str]
    """Cluster → why it could not be asked."""

    @property
    def green(self) -> bool:
        """True when everything was asked and everything is right."""
        flows_run = all(flow.runs for flow in self.flows)
        return not self.drifts and not self.unreachable and flows_run


def examine(topology: Topology, endpoints: Endpoints) -> Diagnosis:
    """Compare every topic in every cluster with the catalogue, and ask for every flow's state.

    A cluster that does not answer is named in `unreachable`; the others are examined all the same.
    """
    bootstraps = {name: region.kafka_bootstrap for name, region in endpoints.regions.items()}
    if endpoints.control_bootstrap is not None:
        bootstraps["control"] = endpoints.control_bootstrap
    specs = [spec for spec in catalogue(topology) if spec.cluster in bootstraps]
    with ThreadPoolExecutor(len(bootstraps)) as pool:
        results = list(
            pool.map(
                lambda cluster: _cluster(cluster, bootstraps[cluster], specs, endpoints),
                bootstraps,
            )
        )
    return Diagnosis(
        len(specs),
        tuple(drift for drifts, _, _ in results for drift in drifts),
        tuple(flow for _, flows, _ in results for flow in flows),
        {name: why for name, (_, _, why) in zip(bootstraps, results, strict=True) if why},
    )


def _cluster(
    cluster: str, bootstrap: str, specs: list[TopicSpec], endpoints: Endpoints
) -> tuple[list[Drift], list[FlowState], str]:
    try:
        drifts = diff_topics(bootstrap, [spec for spec in specs if spec.cluster == cluster])
        flows = []
        region = endpoints.regions.get(cluster)
        if region is not None and region.mirror_rest is not None:
            flows = [
                flow_state(bootstrap, source, cluster)
                for source in endpoints.regions
                if source != cluster
            ]
    except EverlodeError as exc:
        return [], [], exc.message
    return drifts, flows, ""
