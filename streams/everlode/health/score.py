"""A score in [0, 1] of a node, a component, a region, the network, with what it was made from.

Evidence is a value in [0, 1] with a weight. A node and a component are as well as all of their
evidence allows: the product of each value to the power of its weight. A region and the network are
the weighted mean of their members. docs/health.md has the weights, made from its tables.

Invariants: a score is in [0, 1]; a lower value of any evidence never raises it, on any level above
either. What is not known counts `UNKNOWN` beside other evidence, as a member of a mean 0, and where
nothing at all is known there is no score, but a reason. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Literal, NamedTuple

from everlode.health.weights import (
    BEHIND_S,
    COMPONENT,
    FRESH_S,
    FULL,
    GATE,
    LEASE_GOOD,
    LEASE_OVER,
    LEVEL_S,
    NODE,
    REGION,
    SILENT_S,
    STATUS,
    UNKNOWN,
    Weighed,
)

Level = Literal["node", "component", "region", "network"]
Clock = Literal["right", "wrong", "barred"]
"""Barred: so wrong that its node leads nothing."""
Valued = tuple[float | None, str]
"""A value, and what was seen."""


class Evidence(NamedTuple):
    """What a score was made from. `value` None: not known; `why` says what was seen."""

    name: str
    weight: float
    value: float | None
    why: str


class Health(NamedTuple):
    """A score with its evidence. `score` None: nothing is known, and `reason` says why.

    Else `reason` is what lowers it most; empty when nothing does.
    """

    level: Level
    name: str
    score: float | None
    reason: str
    evidence: tuple[Evidence, ...]


class NodeSeen(NamedTuple):
    """What is known of a node; None: not known."""

    node_id: str
    status: str | None
    """By the control log."""
    said: str | None
    """The status in its last beat."""
    silent_s: float | None
    """Since its last beat; infinite when it has never beaten."""
    load: float | None
    """Share of what it can take, 0 to 1."""
    clock: Clock | None = "right"


class ComponentSeen(NamedTuple):
    """What is known of a component of a region."""

    name: str
    """As its scope is named, e.g. task-manager/eu."""
    leader: str | None
    """Node that leads; empty: nobody does, None: it is not known."""
    ticks: int | None
    """Renewals of the coordinator since the last one of the leader."""
    nodes: tuple[Health, ...]
    lag_s: float | None = None
    """How far its projection is behind."""
    is_projected: bool = True
    """False: it has no facts that a projection could be behind with, or none is looked at."""


def falling(value: float, whole: float, least: float, floor: float = 0.0) -> float:
    """1 up to `whole`, from there falling to `floor` at `least` and beyond."""
    if value <= whole:
        return 1.0
    return max(floor, 1.0 - (1.0 - floor) * (value - whole) / (least - whole))


def node_health(seen: NodeSeen) -> Health:
    """Of one node; a status that nobody has defined counts as 0."""
    by = {"control log": seen.status, "beat": seen.said}
    worst = min(
        ((STATUS.get(status, 0.0), f"{status} by its {who}") for who, status in by.items()
         if status is not None),
        default=(None, "neither the control log nor a beat names it"),
    )  # fmt: skip
    silent, load = seen.silent_s, seen.load
    clocks = {"right": 1.0, "wrong": 0.8, "barred": 0.2, None: None}
    found = {
        "status": worst,
        "beat": (
            (None, "not known: no node of its region is seen to beat") if silent is None
            else (falling(silent, FRESH_S, SILENT_S), _silence(silent))
        ),
        "clock": (clocks[seen.clock], f"its clock is {seen.clock or 'not known'}"),
        "load": (
            (None, "not known") if load is None
            else (falling(load, FULL, 1.0, 0.5), f"{load:.0%} of what it takes")
        ),
    }  # fmt: skip
    return allowed("node", seen.node_id, _weighed(NODE, found))


def _silence(seconds: float) -> str:
    return "it has never beaten" if seconds == float("inf") else f"silent for {seconds:.1f} s"


def component_health(seen: ComponentSeen) -> Health:
    """Of one component of a region, with the scores of its nodes."""
    role: Valued
    led = next((n for n in seen.nodes if n.name == seen.leader), None)
    if seen.leader is None:
        role = (None, "who leads is not known")
    elif not seen.leader:
        role = (0.0, "nobody leads")
    elif led is None:
        role = (None, f"{seen.leader} leads, of which nothing is known")
    else:
        role = (led.score, f"{seen.leader} leads{_but(led)}")
    ticks = seen.ticks if seen.leader else None
    found: dict[str, Valued] = {
        "role": role,
        "lease": (
            (None, "not known") if ticks is None
            else (falling(ticks, LEASE_GOOD, LEASE_OVER), f"renewed {ticks} renewals ago")
        ),
        "nodes": _mean_of(seen.nodes),
    }  # fmt: skip
    if seen.is_projected:
        lag = seen.lag_s
        found["lag"] = (
            (None, "not known") if lag is None
            else (falling(lag, LEVEL_S, BEHIND_S, 0.2), f"its projection is {lag:.1f} s behind")
        )  # fmt: skip
    return allowed("component", seen.name, _weighed(COMPONENT, found))


def _but(member: Health) -> str:
    return f", but: {member.reason}" if member.reason else ""


def _mean_of(nodes: Sequence[Health]) -> Valued:
    """The mean of the nodes' scores, and the worst of them."""
    if not nodes or all(n.score is None for n in nodes):
        return None, "no node of it is known"
    worst = min(nodes, key=lambda n: (n.score or 0.0, n.name))
    return (
        sum(n.score or 0.0 for n in nodes) / len(nodes),
        f"{len(nodes)} nodes"
        + (f", the worst is {worst.name}{_but(worst)}" if worst.reason else ""),
    )


def _weighed(weights: Mapping[str, Weighed], found: Mapping[str, Valued]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(name, kind.weight, *found[name]) for name, kind in weights.items() if name in found
    )


def allowed(level: Level, name: str, evidence: Iterable[Evidence]) -> Health:
    """As well as all evidence allows: the product of each value to the power of its weight."""
    given = tuple(e._replace(value=_clipped(e.value)) for e in evidence)
    if all(e.value is None for e in given):
        return Health(level, name, None, _nothing(given), given)
    values = [(UNKNOWN if e.value is None else e.value) ** e.weight for e in given]
    worst = min(zip(values, given, strict=True), key=lambda pair: pair[0])
    reason = f"{worst[1].name}: {worst[1].why}" if worst[0] < 1 else ""
    return Health(level, name, _clipped(prod(values)), reason, given)


def mean_of(
    level: Level, name: str, members: Sequence[Health], weights: Mapping[str, float] | None = None
) -> Health:
    """The weighted mean; a member weighs by the first half of its name, else 1; unknown: 0."""
    of = weights or {}
    given = tuple(
        Evidence(m.name, of.get(m.name.partition("/")[0], 1.0), _clipped(m.score), m.reason)
        for m in members
    )
    total = sum(e.weight for e in given)
    if not total or all(e.value is None for e in given):
        return Health(level, name, None, _nothing(given), given)
    score = _clipped(sum((e.value or 0.0) * e.weight for e in given) / total)
    worst = max(given, key=lambda e: (1 - (e.value or 0.0)) * e.weight)
    reason = f"{worst.name}: {worst.why or 'not known'}" if (worst.value or 0.0) < 1 else ""
    return Health(level, name, score, reason, given)


def region_health(region: str, components: Sequence[Health]) -> Health:
    """Of a region, from its components."""
    return mean_of("region", region, components, REGION)


def network_health(regions: Sequence[Health]) -> Health:
    """Of the network: each region weighs alike."""
    return mean_of("network", "network", regions)


def passes(found: Health, gate: float = GATE) -> bool:
    """Whether work may be resumed: it is known to be better than the gate."""
    return found.score is not None and found.score > gate


def _nothing(given: Sequence[Evidence]) -> str:
    first = next((e.why for e in given if e.why), "")
    return f"nothing is known{f': {first}' if first else ''}"


def _clipped(value: float | None) -> float | None:
    """Within [0, 1]; what is no number is the worst."""
    return None if value is None else min(1.0, max(0.0, value))
