"""What a topology file may say: every key, its type, bounds, default and meaning.

A key is here only when something obeys it: the topology's are the stack's, a cluster's become
members, a policy is given as a setting to each kind of process that reads it. docs/topology.md is
made from this. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from everlode.stack.services import ALL, MOST, VALIDATORS, Member, default_priority
from everlode.topics import Topology


def _numbers(value: Any) -> Any:
    """A count, or numbers, as numbers in rising order."""
    expected = f"expected a count up to {MOST}, or the numbers of its nodes, e.g. [1, 3]"
    if isinstance(value, bool) or not isinstance(value, int | list | tuple):
        raise ValueError(expected)
    numbers = range(1, value + 1) if isinstance(value, int) else value
    if isinstance(value, int) and not 0 <= value <= MOST:
        raise ValueError(expected)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST:
            raise ValueError(expected)
    if len(set(numbers)) != len(numbers):
        raise ValueError("each number once")
    return tuple(sorted(numbers))


Numbers = Annotated[tuple[int, ...], BeforeValidator(_numbers)]


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True
    )  # fmt: skip


class _Kinds(_Section):
    """Keys are kinds, as `everlode node run` spells them."""

    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", "-"))


class Processes(_Section):
    """Members that are no nodes of a service."""

    nodes: Numbers
    """How many of them run, or their numbers. A number that is struck off is ended."""


class Cluster(_Section):
    """Nodes of one service."""

    nodes: Numbers
    """How many of them run, or their numbers. A number that is struck off is drained: it ends, and
    what it led and managed goes to others, before the next step."""
    priorities: dict[int, Annotated[int, Field(ge=0, le=1_000_000)]] = Field(default_factory=dict)
    """Number → priority of that node at a promotion, higher first; without, 100 less the
    number in its id."""


class SpecialCluster(Cluster):
    """Nodes of a service that work is chosen for by its type."""

    specialties: dict[int, tuple[str, ...]] = Field(default_factory=dict)
    """Number → the types of tasks that this node gets before others. A node without takes every
    type alike; one that names others gets a type when nobody else has room, or does it in time."""


class Validators(_Kinds):
    """Validators, by their kind. They share one count: the k-th automatic one is val-(3k-2), the
    k-th of peer review val-(3k-1), the k-th expert val-3k."""

    automatic: SpecialCluster | None = None
    """Judge alone, at once."""
    peer_review: Cluster | None = None
    """Draw panels and ask them."""
    expert: SpecialCluster | None = None
    """Decide what a panel could not, and audit."""


class Clusters(_Kinds):
    """What runs in one region."""

    task_manager: SpecialCluster | None = None
    """Manage tasks; one of them leads."""
    miner_registry: Cluster | None = None
    """Know the miners; one of them leads."""
    validator: Validators | None = None
    """Judge solutions; one of all kinds leads."""
    reward_distributor: Cluster | None = None
    """Pay; one of them leads."""
    projector: Processes | None = None
    """Fold all regions' facts into the region's database."""
    detector: Processes | None = None
    """Turn silence into verdicts."""
    coordinator: Processes | None = None
    """Turn verdicts into decisions; one of them leads, the others stand by."""


class ReplicationPolicy(_Section):
    """Between regions."""

    mirrors: bool = True
    """Each region copies the facts of all others. Of a new stack only."""


class DetectionPolicy(_Section):
    """How soon a silence is noticed."""

    beat_ms: int = Field(default=1000, ge=100)
    """A node sends a heartbeat so often."""
    link_stale_ms: int = Field(default=5000, ge=2000)
    """A link between regions over which nothing comes for so long is stale."""
    region_suspected_ms: int = Field(default=10_000, ge=2000)
    """A region of which nothing comes for so long is suspected; lost, once most sites say so."""


class FailoverPolicy(_Section):
    """How long a primary may lead unheard."""

    renew_ms: int = Field(default=2000, ge=100)
    """A primary renews its lease so often."""
    fence_after_ms: int = Field(default=12_000, ge=1000)
    """A primary whose lease was not renewed for so long leads no more."""
    control_election_ms: int = Field(default=5000, ge=0)
    """Measured pause of the control log when its leader is killed."""


class BalancingPolicy(_Section):
    """Who gets how much work."""

    lease_s: int = Field(default=3600, ge=1)
    """Lease of an assignment, in seconds of event time."""
    max_concurrent: int = Field(default=20_000, ge=1)
    """Tasks that one task manager node manages at once."""


class ValidationPolicy(_Section):
    """How validators work."""

    judge_s: int = Field(default=10, ge=1)
    """A validator's judge that has not come back from a solution for so long is left alone with it:
    others judge that, and the node goes on."""


class ProjectionPolicy(_Section):
    """When a projection is taken for stuck."""

    stall_s: int = Field(default=120, ge=5)
    """A projector that stands still for so long, while its logs go on, ends and names the place."""


class Policies(_Section):
    """What is not named is as the environment of the supervisor has it, else the default."""

    replication: ReplicationPolicy = ReplicationPolicy()
    """Between regions."""
    detection: DetectionPolicy = DetectionPolicy()
    """How soon a silence is noticed."""
    failover: FailoverPolicy = FailoverPolicy()
    """How long a primary may lead unheard."""
    balancing: BalancingPolicy = BalancingPolicy()
    """Who gets how much work."""
    validation: ValidationPolicy = ValidationPolicy()
    """How validators work."""
    projection: ProjectionPolicy = ProjectionPolicy()
    """When a projection is taken for stuck."""


class TopologyFile(Topology):
    """The whole file: the fields of a topology, and beside them clusters and policies."""

    clusters: dict[str, Clusters] = Field(default_factory=dict)
    """Region → what runs there."""
    policies: Policies = Policies()
    """What the processes of all regions are told."""


READERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("beat_ms", "renew_ms", "fence_after_ms", "control_election_ms"), tuple(ALL)),
    "link_stale_ms": ("coordinator",),
    "region_suspected_ms": ("coordinator",),
    "lease_s": ("task-manager", "coordinator"),
    "max_concurrent": (
        "task-manager", "miner-registry", "validator", "reward-distributor", "coordinator",
    ),
    "judge_s": ("validator",),
    "stall_s": ("projector",),
}  # fmt: skip
"""Policy that is a setting → the kinds of process that read it; these are replaced by a change."""


class Network(NamedTuple):
    """A network, wanted or running: what one file can say of it."""

    topology: Topology
    """Of a wanted one only what the file names counts: `model_fields_set`."""
    mirrors: bool | None
    """None: not said."""
    members: frozenset[Member]


def given(policies: Policies) -> dict[str, int]:
    """The policies that are settings, of those that the file names."""
    found: dict[str, int] = {}
    for section in policies.model_fields_set - {"replication"}:
        found |= getattr(policies, section).model_dump(exclude_unset=True)
    return dict(sorted(found.items()))


def clusters_of(region: Clusters) -> Iterator[tuple[str, str, Cluster | Processes]]:
    """(kind, kind of validator or nothing, its nodes) of all clusters that are there."""
    for name, field in Clusters.model_fields.items():
        found, kind = getattr(region, name), field.alias or name
        if isinstance(found, Validators):
            for inner, what in Validators.model_fields.items():
                one = getattr(found, inner)
                if one is not None:
                    yield kind, what.alias or inner, one
        elif found is not None:
            yield kind, "", found


def number_of(validator_kind: str, number: int) -> int:
    """The number in the stack of the `number`-th of its kind; see `Validators`."""
    if not validator_kind:
        return number
    return len(VALIDATORS) * (number - 1) + VALIDATORS.index(validator_kind) + 1


def specialties_of(cluster: Cluster | Processes) -> dict[int, tuple[str, ...]]:
    """Of its nodes, by their numbers; of a cluster that can have none, none."""
    return cluster.specialties if isinstance(cluster, SpecialCluster) else {}


def network_of(file: TopologyFile) -> Network:
    """What a file wants, in full."""
    settings = given(file.policies)
    members = set()
    for region, clusters in file.clusters.items():
        for kind, which, cluster in clusters_of(clusters):
            told = tuple((n, v) for n, v in settings.items() if kind in READERS[n])
            ranks = cluster.priorities if isinstance(cluster, Cluster) else {}
            for number in cluster.nodes:
                n = number_of(which, number)
                rank = ranks.get(number, default_priority(kind, n))
                special = specialties_of(cluster).get(number, ())
                members.add(Member(region, kind, n, rank, told, special))
    fields = file.model_fields_set & Topology.model_fields.keys()
    topology = Topology.model_validate({name: getattr(file, name) for name in fields})
    mirrors = file.policies.replication
    said = mirrors.mirrors if "mirrors" in mirrors.model_fields_set else None
    return Network(topology, said, frozenset(members))
