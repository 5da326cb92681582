"""What one key of a topology file asks of another: rules by name, and the place that breaks one.

Types, bounds and the names of keys are the model's; see `check`. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from everlode.control.lease import check_fence_after
from everlode.detection.regions import Patience
from everlode.errors import ConfigError
from everlode.events.services import BY_NODE
from everlode.topology.model import Cluster, Clusters, TopologyFile, clusters_of, specialties_of
from everlode.topology.source import Where

TWO = 2
"""Sites of which none can be lost: the other one is no majority of them."""


class Broken(NamedTuple):
    """A rule that a file breaks, and where."""

    where: Where
    rule: str
    message: str


def _regions(file: TopologyFile) -> Iterator[Broken]:
    """What clusters are of is a region."""
    for region in file.clusters:
        if region not in file.regions:
            near = get_close_matches(region, file.regions, 1, cutoff=0.0)
            why = f"{region}: there is no such region; the nearest is {near[0]}"
            yield Broken(("clusters", region), "region", why)


def _majority(file: TopologyFile) -> Iterator[Broken]:
    """A decision is real on a majority of sites, also when one of them is lost."""
    sites, least = file.control_replication, file.control_min_insync
    if sites % 2 == 0:
        why = f"{sites} sites are no majority for the control log: they bear no more losses than"
        yield Broken(("control_replication",), "majority", f"{why} {sites - 1}; an odd number is")
    elif 2 * least <= sites:
        why = f"{least} of {sites} sites are no majority: two halves could decide apart"
        yield Broken(("control_min_insync",), "majority", why)
    elif least == sites > 1:
        why = f"all {sites} sites for each decision: the loss of one would end all decisions"
        yield Broken(("control_min_insync",), "majority", why)


def _brokers(file: TopologyFile) -> Iterator[Broken]:
    """What a region's cluster can hold."""
    if file.replication > 1:
        why = f"{file.replication} copies in a region, which has one broker in this build"
        yield Broken(("replication",), "brokers", why)


def _fence_after(file: TopologyFile) -> Iterator[Broken]:
    """A primary is not fenced by an election of the control log, nor by one lost renewal."""
    policy = file.policies.failover
    try:
        check_fence_after(policy.fence_after_ms, policy.control_election_ms, policy.renew_ms)
    except ConfigError as error:
        told = [n for n in type(policy).model_fields if n in policy.model_fields_set]
        name = "fence_after_ms" if "fence_after_ms" in told else (*told, "fence_after_ms")[0]
        where = ("policies", "failover", name)
        yield Broken(where, "fence-after", f"{error.message}: {error.hint}")


def _patience(file: TopologyFile) -> Iterator[Broken]:
    """A region is suspected over a link that is stale, and lost by a majority of sites."""
    policy = file.policies.detection
    try:
        Patience(policy.link_stale_ms, policy.region_suspected_ms).check()
    except ConfigError as error:
        told = "region_suspected_ms" in policy.model_fields_set
        where = ("policies", "detection", "region_suspected_ms" if told else "link_stale_ms")
        yield Broken(where, "patience", f"{error.message}: {error.hint}")


def no_majority(regions: Sequence[str]) -> str:
    """Why none of these regions can be found lost; empty when one can."""
    if len(regions) > TWO:
        return ""
    return f"{', '.join(regions)}: without one of them no majority is left: none is ever found lost"


def _priorities(file: TopologyFile) -> Iterator[Broken]:
    """Priorities are of nodes that there are."""
    for region, clusters in file.clusters.items():
        for kind, which, cluster in clusters_of(clusters):
            ranks = cluster.priorities if isinstance(cluster, Cluster) else {}
            for number in ranks.keys() - set(cluster.nodes):
                where = ("clusters", region, kind, *filter(None, (which,)), "priorities")
                there = ", ".join(map(str, cluster.nodes)) or "none"
                why = f"{number} is no node of it; its nodes are {there}"
                yield Broken((*where, str(number)), "priority", why)


def _specialties(file: TopologyFile) -> Iterator[Broken]:
    """Specialties are of nodes and types that there are, and every type has somebody."""
    for region, clusters in file.clusters.items():
        for kind, which, cluster in clusters_of(clusters):
            special = specialties_of(cluster)
            where = ("clusters", region, kind, *filter(None, (which,)), "specialties")
            for number, names in special.items():
                here = (*where, str(number))
                if number not in cluster.nodes:
                    there = ", ".join(map(str, cluster.nodes)) or "none"
                    why = f"{number} is no node of it; its nodes are {there}"
                    yield Broken(here, "specialty", why)
                yield from _named(here, names, file.task_types)
            lacks = set(file.task_types).difference(*special.values())
            if lacks and cluster.nodes and set(cluster.nodes) <= special.keys():
                why = f"every node is special, and none in {', '.join(sorted(lacks))}"
                yield Broken(where, "specialty", f"{why}: leave one out, which takes all alike")


def _named(where: Where, names: Sequence[str], types: Sequence[str]) -> Iterator[Broken]:
    if not names:
        yield Broken(where, "specialty", "name a type of task, or leave the node out")
    for index, name in enumerate(names):
        at = (*where, str(index))
        if name not in types:
            (near,) = get_close_matches(name, types, 1, cutoff=0.0)
            why = f"{name}: there is no such type of task; the nearest is {near}"
            yield Broken(at, "specialty", why)
        elif name in names[:index]:
            yield Broken(at, "specialty", f"{name}: name each type once")


def _watched(file: TopologyFile) -> Iterator[Broken]:
    """Nodes are given a primary, and the loss of one is found."""
    for region, clusters in file.clusters.items():
        services = [(k, c) for k, _, c in clusters_of(clusters) if k in BY_NODE and c.nodes]
        if services and not _there(clusters, "coordinator"):
            why = f"{region} has nodes and no coordinator: nobody would ever lead"
            yield Broken(("clusters", region), "led", why)
        counts: dict[str, int] = {}
        for kind, cluster in services:
            counts[kind] = counts.get(kind, 0) + len(cluster.nodes)
        several = [kind for kind, count in counts.items() if count > 1]
        if several and not _there(clusters, "detector"):
            why = f"{region} has several nodes of {several[0]} and no detector: none takes over"
            yield Broken(("clusters", region), "watched", why)


def _there(clusters: Clusters, kind: str) -> bool:
    return any(k == kind and c.nodes for k, _, c in clusters_of(clusters))


RULES: tuple[Callable[[TopologyFile], Iterator[Broken]], ...] = (
    _regions, _majority, _brokers, _fence_after, _patience, _priorities, _specialties,
    _watched,
)  # fmt: skip


def broken(file: TopologyFile) -> list[Broken]:
    """All rules that it breaks."""
    return [one for rule in RULES for one in rule(file)]
