"""The one look at a network: who leads, who beats, what lags, what runs now, what is paused.

Shell: reads the control log, each region's heartbeats and recovery stream from near their ends, and
asks its projection for one small table. What does not answer is named, and the rest is shown.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, NamedTuple

from everlode.adapters.kafka import Reader
from everlode.adapters.postgres_read import Generation
from everlode.avro.codec import Codec
from everlode.control.fold import ControlState, NodeState
from everlode.errors import ContractError, EverlodeError
from everlode.events.nodes import NodeStatus
from everlode.events.services import SERVICES
from everlode.events.stamp import millis_of
from everlode.failover.planner import GONE, Beating
from everlode.settings.endpoints import Endpoints
from everlode.topics.names import fact_topic
from everlode.views.beats import beating
from everlode.views.links import StaleLink, stale_links, standing
from everlode.views.operations import Operations
from everlode.views.overview import control_seen
from everlode.views.skews import recent, skews

RECENT = 1_000
"""Records of a region's recovery stream that are looked at."""
READ_S = 10.0
LAG_S = 30.0
"""A projection that is further behind is degraded: its primaries leave a barrier each second."""
NEVER_S = 10 * 366 * 86_400.0
"""Further behind than this: it has no fact of the topic yet."""
HEALTHY = frozenset({NodeStatus.HEALTHY, NodeStatus.DRAINING})
Rows = list[dict[str, Any]]


class OneLook(NamedTuple):
    """What was found; all plain values, times in wall time."""

    at: str
    regions: Rows
    links: Rows
    """Those between regions over which nothing comes."""
    scopes: Rows
    nodes: Rows
    running: Rows
    paused: Rows
    problems: list[str]
    """Why it is degraded; empty: it is not."""


class OfRegion(NamedTuple):
    """What a region's own parts say."""

    beats: Mapping[str, Beating]
    running: Rows
    links: list[StaleLink]
    lag_s: float | None


def one_look(endpoints: Endpoints) -> OneLook:
    """Everything at a glance. Raises: IntegrityError: the control log is damaged."""
    now_ms = time.time_ns() // 1_000_000
    control, silent = control_seen(endpoints)
    problems = [f"{part} does not answer: {why}" for part, why in silent.items()]
    control = control or ControlState()
    found: dict[str, OfRegion] = {}
    for region in endpoints.regions:
        found[region] = _of_region(endpoints, region, problems)
    nodes = [
        row
        for node in sorted(control.nodes.values(), key=lambda n: (n.region, n.component, n.node_id))
        for row in [_node(control, node, found.get(node.region))]
    ]
    regions = [_region(control, endpoints, name, of) for name, of in found.items()]
    scopes = [
        _scope(control, name, now_ms)
        for name in sorted({*control.scopes, *_expected(control)})
    ]  # fmt: skip
    wishes = [_wish(wish) for wish in control.wishes.open]
    running = wishes + [row for of in found.values() for row in of.running]
    problems += [
        f"{link.reader} hears nothing of {link.source} since {link.since}"
        for of in found.values()
        for link in of.links
    ]
    problems += _problems(regions, scopes, nodes)
    at = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="seconds")
    links = [link._asdict() for of in found.values() for link in of.links]
    return OneLook(at, regions, links, scopes, nodes, running, _paused(control, now_ms), problems)


def _expected(control: ControlState) -> set[str]:
    """Scopes that should have a primary: some node could lead them. Pure."""
    names = {service.scope for service in SERVICES}
    return {f"{n.component}/{n.region}" for n in control.nodes.values() if n.component in names}


# -- a region's own parts ------------------------------------------------------------------------


def _of_region(endpoints: Endpoints, region: str, problems: list[str]) -> OfRegion:
    parts = endpoints.parts(region)
    beats: Mapping[str, Beating] = {}
    running: Rows = []
    links: list[StaleLink] = []
    lag_s = None
    try:
        with closing(Reader(parts.bootstrap, f"look-{uuid.uuid4()}", wait_ms=20)) as reader:
            beats = beating(reader, parts.origin, parts.partitions)
            running = _running(reader, parts.origin)
            links = stale_links(region, recent(reader, parts.origin))
        problems += [
            f"the clock of {s.node_id} is {s.ahead_ms / 1000:+.0f} s wrong"
            for s in skews(endpoints, region)
        ]
        lag_s = _lag_s(endpoints, region)
    except EverlodeError as error:
        problems.append(f"{region}: {error.message}")
    return OfRegion(beats, running, links, lag_s)


def _running(reader: Reader, origin: str) -> Rows:
    """Operations of the recovery stream that have begun and not ended."""
    place, folded, codec = (fact_topic(origin, "recovery"), 0), Operations(), Codec()
    ends = reader.ends([place])
    reader.assign({place: max(0, ends[place] - RECENT)})
    for batch in reader.until(ends, READ_S):
        for raw in batch:
            try:
                folded.observe(codec.decode_fact(raw.value))
            except ContractError:
                continue
    return [
        {
            "operation": op.id, "what": op.kind, "about": op.subject, "by": "coordinator",
            "since": op.started_at.isoformat(timespec="seconds") if op.started_at else None,
            "step": op.steps[-1]["step"] if op.steps else None,
        }
        for op in folded.newest(RECENT)
        if op.kind and op.ended_at is None
    ]  # fmt: skip


def _lag_s(endpoints: Endpoints, region: str) -> float | None:
    """Seconds since the moment up to which all facts are in that any topic has; None: no fact."""
    with closing(Generation.current(endpoints.regions[region].postgres_conninfo())) as tables:
        rows = tables.query("select topic, min(stamp) from {g}.positions group by topic")
    now_ms = time.time_ns() // 1_000_000
    lags = [(now_ms - millis_of(stamp)) / 1000 for _, stamp in rows]
    return max((max(0.0, lag) for lag in lags if lag < NEVER_S), default=None)


# -- what is shown -------------------------------------------------------------------------------


def _region(control: ControlState, endpoints: Endpoints, name: str, of: OfRegion) -> dict[str, Any]:
    led = control.scopes.get(f"coordinator/{name}")
    return {
        "region": name,
        "origin": control.origins.get(name, endpoints.regions[name].origin),
        "generation": control.generations.get(name),
        "standing": standing(control, name),
        "coordinator": (led.primary or None) if led else None,
        "coordinator_beats": bool(led and led.primary in of.beats),
        "lag_s": None if of.lag_s is None else round(of.lag_s, 1),
    }


def _scope(control: ControlState, name: str, now_ms: int) -> dict[str, Any]:
    led, wish = control.scopes.get(name), control.wishes.of(name)
    node = control.nodes.get(led.primary) if led else None
    pause, cools = control.wishes.pause(name, now_ms), control.cooldowns.get(name)
    return {
        "scope": name,
        "epoch": led.epoch if led else 0,
        "primary": (led.primary or None) if led else None,
        "status": node.status if node else None,
        "reason": led.decision.reason if led else None,
        "now": wish.text if wish else None,
        "frozen": bool(led and control.wishes.frozen(name, led.epoch)),
        "paused_until": _time(pause.until_ms) if pause else None,
        "cools_until": _time(cools.until_ms) if cools and now_ms < cools.until_ms else None,
    }


def _node(control: ControlState, node: NodeState, of: OfRegion | None) -> dict[str, Any]:
    beat = of.beats.get(node.node_id) if of else None
    ack = control.wishes.ack(node.node_id, node.changed_at)
    leads = sorted(s.scope for s in control.scopes.values() if s.primary == node.node_id)
    return {
        "node_id": node.node_id,
        "region": node.region,
        "component": node.component,
        "role": "primary" if leads else "secondary",
        "status": node.status,
        "beats": beat is not None,
        "queue": beat.queue_size if beat else None,
        "load": round(beat.load_ppm / 1e6, 3) if beat else None,
        "acknowledged_by": ack.operator if ack else None,
    }


def _wish(wish: Any) -> dict[str, Any]:
    step = "drained" if wish.drained else "frozen" if wish.freeze else "asked"
    return {
        "operation": wish.id, "what": wish.asked.verb, "by": wish.asked.operator,
        "about": wish.asked.node_id or wish.asked.scope_name, "since": None, "step": step,
    }  # fmt: skip


def _paused(control: ControlState, now_ms: int) -> Rows:
    return [
        {
            "scope": p.scope_name, "by": p.operator, "reason": p.reason or None,
            "until": _time(p.until_ms),
        }
        for p in control.wishes.pauses
        if control.wishes.pause(p.scope_name, now_ms) is not None
    ]  # fmt: skip


def _time(millis: int | None) -> str:
    if millis is None:
        return "resumed"
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="seconds")


def _problems(regions: Rows, scopes: Rows, nodes: Rows) -> list[str]:
    """Pure."""
    found = []
    for region in regions:
        name, lag = region["region"], region["lag_s"]
        if region["standing"] is not None:
            found.append(f"{name} is {region['standing']}")
        if region["coordinator"] is None:
            found.append(f"{name} has no coordinator: nothing is failed over")
        if lag is not None and lag > LAG_S:
            found.append(f"the projection of {name} is {lag} s behind")
    for scope in scopes:
        if scope["primary"] is None:
            found.append(f"{scope['scope']} has no primary")
        elif scope["status"] in GONE:
            found.append(f"{scope['primary']}, which leads {scope['scope']}, is {scope['status']}")
    for node in nodes:
        well = node["status"] in HEALTHY and node["beats"]
        if not well and node["acknowledged_by"] is None:
            silent = "" if node["beats"] else ", and does not beat"
            found.append(f"{node['node_id']} is {node['status']}{silent}")
    return found
