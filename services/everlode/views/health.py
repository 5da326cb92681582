"""How well the network is, for operators and programs: what was seen of it, as scores.

What is seen: the control log (who leads, statuses, leases), the nodes' last beats, how far each
projection is behind, whose clocks are wrong. `look` asks for it, `scored` is pure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from everlode.adapters.kafka import Reader
from everlode.adapters.postgres_read import Generation
from everlode.control.fold import ControlState
from everlode.control.scopes import COMPONENT_OF
from everlode.errors import NotFound, Unavailable
from everlode.events.types import PPM
from everlode.health.score import (
    Clock,
    ComponentSeen,
    Health,
    NodeSeen,
    component_health,
    network_health,
    node_health,
    region_health,
)
from everlode.health.weights import COORDINATOR, REGION, SILENT_S
from everlode.settings.endpoints import Endpoints
from everlode.views.beats import LastBeat, last_beats
from everlode.views.clusters import Asked, Figures, leading, nodes, synced_to_ms
from everlode.views.overview import control_seen
from everlode.views.skews import Skew, skews, skews_by


class RegionSeen(NamedTuple):
    """What was seen of a region. What is missing from a mapping is not known."""

    region: str
    control: ControlState | None
    beats: Mapping[str, Sequence[Figures]]
    """Component → its nodes as they beat last, as `clusters.nodes` shows them."""
    lag_s: Mapping[str, float] | None
    """Component → seconds that its projection is behind; None: none is looked at."""
    clocks: Sequence[Skew] = ()


class Scores(NamedTuple):
    """The network's score, with those that it was made from."""

    network: Health
    regions: tuple[Health, ...]
    components: tuple[Health, ...]
    nodes: tuple[Health, ...]
    unreachable: dict[str, str]
    """Region, or control → why it did not answer."""

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "network": plain(self.network),
            **{
                level: [plain(h) for h in getattr(self, level)]
                for level in ("regions", "components", "nodes")
            },
            "unreachable": self.unreachable,
        }


def plain(found: Health) -> dict[str, Any]:
    """A score as plain values."""
    return found._asdict() | {"evidence": [e._asdict() for e in found.evidence]}


def scored(regions: Iterable[RegionSeen], unreachable: Mapping[str, str]) -> Scores:
    """The scores of what was seen; a region that does not answer is one of which nothing is known.

    Pure.
    """
    found: list[Health] = []
    components: list[Health] = []
    members: list[Health] = []
    for seen in regions:
        of_region = [_component(seen, component) for component in REGION]
        components += [component for component, _ in of_region]
        members += [node for _, of_component in of_region for node in of_component]
        found.append(region_health(seen.region, [component for component, _ in of_region]))
    return Scores(
        network_health(found), tuple(found), tuple(components), tuple(members), dict(unreachable)
    )


def _component(seen: RegionSeen, component: str) -> tuple[Health, tuple[Health, ...]]:
    beats = {beat["node_id"]: beat for beat in seen.beats.get(component, ())}
    name, control = f"{component}/{seen.region}", seen.control
    known = control.nodes_of(seen.region, component) if control else []
    of_nodes = tuple(
        node_health(_node(seen, node, beats))
        for node in sorted({n.node_id for n in known} | beats.keys())
    )
    scope = control.scopes.get(name) if control else None
    leader, ticks = None, None
    if control is None:
        leader = leading(_fresh(beats.values()))
    elif scope is not None or of_nodes:
        leader = scope.primary if scope else ""
    if control is not None and scope is not None:
        joined = next((n.joined_at for n in known if n.node_id == leader), -1)
        mark = max(scope.renewed_at, scope.decided_at, joined)
        ticks = sum(1 for tick in control.ticks.get(seen.region, ()) if tick > mark)
    is_projected = seen.lag_s is not None and component != COORDINATOR
    lag_s = (seen.lag_s or {}).get(component) if of_nodes or scope else None
    asked = ComponentSeen(name, leader, ticks, of_nodes, lag_s, is_projected)
    return component_health(asked), of_nodes


def _fresh(beats: Iterable[Figures]) -> list[Figures]:
    return [b for b in beats if b["silent_s"] <= SILENT_S]


def _node(seen: RegionSeen, node: str, beats: Mapping[str, Figures]) -> NodeSeen:
    known = seen.control.nodes.get(node) if seen.control else None
    status = known.status if known else None
    clock = next((c for c in seen.clocks if c.node_id == node), None)
    state: Clock = "right" if clock is None else "wrong" if clock.leads else "barred"
    if not any(_fresh(of_component) for of_component in seen.beats.values()):
        looked = state if status or clock else None
        return NodeSeen(node, status, None, None, None, looked)  # the observer may be blind
    beat = beats.get(node)
    if beat is None:
        return NodeSeen(node, status, None, float("inf"), None, state)
    return NodeSeen(node, status, beat["said"], beat["silent_s"], beat["current_load"], state)


# -- what is asked -------------------------------------------------------------------------------


def of_projection(asked: Asked, clocks: Sequence[Skew] = ()) -> RegionSeen:
    """What a region's projection, and the control log, know of it. Raises: Unavailable."""
    lag_s: dict[str, float] = {}
    for component in REGION:
        facts = COMPONENT_OF[component]
        synced = synced_to_ms(asked, facts) if component != COORDINATOR else None
        if synced is not None:
            lag_s[component] = max(0, asked.now_ms - synced) / 1000
    beats = {component: nodes(asked, component) for component in REGION}
    return RegionSeen(asked.region, asked.control, beats, lag_s, clocks)


def look(endpoints: Endpoints, regions: Sequence[str]) -> Scores:
    """The scores of these regions as they are now, and of the network that they make up.

    Of a region whose projection does not answer what the control log knows is left.
    """
    control, unreachable = control_seen(endpoints)
    found = gathered(regions, control, lambda region: _seen(endpoints, region, control))
    return found._replace(unreachable=unreachable | found.unreachable)


def gathered(
    regions: Iterable[str], control: ControlState | None, ask: Callable[[str], RegionSeen]
) -> Scores:
    """The scores of regions that are asked one by one; `ask` may raise Unavailable, NotFound."""
    seen, unreachable = [], dict[str, str]()
    for region in regions:
        try:
            seen.append(ask(region))
        except (NotFound, Unavailable) as error:
            unreachable[region] = error.message
            seen.append(RegionSeen(region, control, {}, {}))
    return scored(seen, unreachable)


def _seen(endpoints: Endpoints, region: str, control: ControlState | None) -> RegionSeen:
    clocks = skews(endpoints, region)
    place = endpoints.region(region)
    with closing(Generation.current(place.postgres_conninfo())) as tables:
        now_ms = time.time_ns() // 1_000_000
        return of_projection(Asked(tables.query, region, place.origin, now_ms, control), clocks)


# -- what a recovery asks ------------------------------------------------------------------------


def services_health(endpoints: Endpoints, region: str) -> Health:
    """How well the services of a region are, whose projection may be gone: by log and control log.

    Unknown when nobody is at work there: no node has beaten for `SILENT_S`, or none ever joined.
    Raises: Unavailable.
    """
    control, _ = control_seen(endpoints)
    parts = endpoints.parts(region)
    reader = Reader(parts.bootstrap, "health", wait_ms=20)
    try:
        last = last_beats(reader, parts.origin, parts.partitions)
        clocks = skews_by(reader, parts.origin)
    finally:
        reader.close()
    return scored([of_beats(region, control, last, clocks)], {}).regions[0]


def of_beats(
    region: str,
    control: ControlState | None,
    last: Mapping[str, LastBeat],
    clocks: Sequence[Skew] = (),
) -> RegionSeen:
    """What the log and the control log know of a region; nothing, when nobody beats. Pure."""
    if not any(each.silent_s <= SILENT_S for each in last.values()):
        return RegionSeen(region, None, {}, None)
    beats: dict[str, list[Figures]] = {}
    for node, (beat, silent_s) in sorted(last.items()):
        beats.setdefault(beat.component, []).append(
            {
                "node_id": node, "said": beat.status, "silent_s": silent_s,
                "current_load": beat.load_ppm / PPM, "role": beat.role,
                "held_epoch": beat.held_epoch,
            }
        )  # fmt: skip
    return RegionSeen(region, control, beats, None, clocks)
