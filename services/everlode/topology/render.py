"""A network as the text of a topology file, which `check` reads as that network. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from everlode.stack.services import ALL, VALIDATORS, Member, default_priority
from everlode.topology.model import Network, Policies

HEAD = "# what runs, as everlode topology show has found it; see docs/topology.md\n"


def rendered(network: Network) -> str:
    """The text of a file."""
    return HEAD + yaml.safe_dump(as_data(network), sort_keys=False, default_flow_style=None)


def as_data(network: Network) -> dict[str, Any]:
    """The contents of a file: the topology's fields that are no defaults, clusters, policies."""
    topology = network.topology.model_dump(mode="json", exclude_defaults=True)
    data: dict[str, Any] = {"regions": list(network.topology.regions), **topology}
    clusters = {
        region: found
        for region in network.topology.regions
        if (found := _clusters([m for m in network.members if m.region == region]))
    }
    return data | ({"clusters": clusters} if clusters else {}) | _policies(network)


def _clusters(members: list[Member]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in ALL:
        mine = [m for m in members if m.kind == kind]
        if kind != "validator":
            found |= {kind: _cluster(mine, 1)} if mine else {}
            continue
        for which in VALIDATORS:
            some = [m for m in mine if m.validator_kind == which]
            if some:
                found.setdefault(kind, {})[which] = _cluster(some, len(VALIDATORS))
    return found


def _cluster(members: Iterable[Member], kinds: int) -> dict[str, Any]:
    """`kinds` share the numbers: see `model.Validators`."""
    ranked = {(m.number - 1) // kinds + 1: m for m in sorted(members)}
    numbers, count = list(ranked), len(ranked)
    priorities = {
        n: m.priority for n, m in ranked.items() if m.priority != default_priority(m.kind, m.number)
    }
    found: dict[str, Any] = {"nodes": count if numbers == [*range(1, count + 1)] else numbers}
    special = {n: list(m.specialties) for n, m in ranked.items() if m.specialties}
    found |= {"priorities": priorities} if priorities else {}
    return found | ({"specialties": special} if special else {})


def _policies(network: Network) -> dict[str, Any]:
    """By their sections. Where members differ, one is half-way through a change: any of them."""
    settings = {n: v for m in sorted(network.members) for n, v in m.settings}
    found: dict[str, Any] = {}
    for section, field in Policies.model_fields.items():
        keys: Any = field.annotation
        told = {n: settings[n] for n in keys.model_fields if n in settings}
        found |= {section: told} if told else {}
    if network.mirrors is False:
        found["replication"] = {"mirrors": False}
    return {"policies": found} if found else {}
