"""The control log's fold of a large network, and scores of all its nodes. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from everlode.control.fold import ControlState, NodeState, ScopeState
from everlode.events.control import ScopeAssigned
from everlode.events.services import SERVICES


def regions_of(scopes: int) -> list[str]:
    """The regions that have so many scopes, a service each."""
    return [f"r{number:02}" for number in range(scopes // len(SERVICES))]


def large(scopes: int, nodes: int) -> ControlState:
    """So many scopes, each led by its first node, and nodes, of which one in a thousand is lost."""
    regions = regions_of(scopes)
    places = [(service.scope, region) for region in regions for service in SERVICES]
    made: dict[str, NodeState] = {}
    led: dict[str, ScopeState] = {}
    for number in range(nodes):
        component, region = places[number % len(places)]
        name, status = f"{region}-{component}-{number:05}", "healthy"
        if number % 1000 == 999:
            status = "lost"
        made[name] = NodeState(name, region, component, "", f"http://{name}:9000", 0, status, 1)
        scope = f"{component}/{region}"
        if scope not in led:
            decision = ScopeAssigned(
                scope_name=scope, new_epoch=1, primary_node=name, region=region,
                reason="bootstrap", based_on=0, based_on_epoch=0,
            )  # fmt: skip
            led[scope] = ScopeState(scope, 1, name, region, 0, decision, 2)
    return ControlState(scopes=MappingProxyType(led), nodes=MappingProxyType(made))


def scores(control: ControlState, regions: list[str]) -> dict[str, Any]:
    """What `GET /health` has of them, as far as a page shows it."""
    names = {"regions": regions, "nodes": [*control.nodes]}
    return {
        level: [{"name": name, "score": 0.93, "reason": "its last beat"} for name in of_level]
        for level, of_level in names.items()
    }
