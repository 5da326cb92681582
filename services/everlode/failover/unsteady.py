"""Nodes that live and do not do their work, or come and go: noted as degraded, and replaced.

    healthy ──► degraded ──► (it leads, and another is well) the scope's next epoch is the other's
       ▲            │
       └────────────┴── it has beaten well for half a minute, or an operator has acknowledged it

It is not lost: it keeps what it manages, and goes on as a secondary. Such a primary is replaced
only by a node that is well, once its own epoch is open, while no operator's wish or pause holds the
scope, and after the scope's cool-down (see `control.cooldown`). So a cause that moves on with the
scope, like a payment system that blocks whoever asks it, moves it more and more rarely.
Shell, but for `replacement`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from everlode.adapters.clock import WallClock
from everlode.control.cooldown import UNSTEADY
from everlode.control.fold import ControlState, NodeState
from everlode.events.base import Fact
from everlode.events.health import NodeDegraded, NodeFlapping
from everlode.events.nodes import NodeStatus
from everlode.events.stamp import millis_of
from everlode.failover.again import Again
from everlode.failover.decisions import Basis, Decisions, Loss
from everlode.failover.heartbeats import Heartbeats
from everlode.failover.planner import Decide, Stuck, View, candidates
from everlode.failover.policy import Policies
from everlode.health.weights import GATE
from everlode.telemetry.entries import HandlingStuck
from everlode.telemetry.sink import Sink, silent

RECENT_MS = 60_000
"""A verdict that is older says nothing of now: another coordinator may have acted on it."""
WELL_S = 30.0
"""A degraded node that has beaten well for so long is healthy again."""
SHOWN_S = 30.0
"""Why a scope keeps its unsteady primary is reported again after this time."""


def replacement(
    view: View[Any], now_ms: int, opened_ms: int | None = None
) -> Decide | Stuck | None:
    """What to do about a scope that `view.node` may lead, at a wall time; None: nothing. Pure.

    `opened_ms`: when its epoch was open everywhere; None: not known.
    """
    led = view.control.scopes.get(view.scope)
    degraded = view.node.status == NodeStatus.DEGRADED
    if led is None or led.primary != view.node.node_id or not degraded:
        return None
    wishes, name = view.control.wishes, f"{view.scope} keeps {led.primary}"
    wish = wishes.of(view.scope)
    why = wishes.holds(view.scope, now_ms) or (f"{wish.text} runs" if wish else "")
    if why:
        return Stuck(f"{name}: {why}")
    beat = view.beats.get(led.primary)
    opened = view.opened >= led.epoch and (beat is None or beat.leads)  # of some it alone says so
    if led.renewed_at < 0 or not opened:
        return Stuck(f"{name}: it has not opened epoch {led.epoch} yet")
    cools = view.control.cooldowns.get(view.scope)
    if cools is not None and now_ms < (until_ms := cools.until_from(opened_ms)):
        until = datetime.fromtimestamp(until_ms / 1000, UTC).isoformat(timespec="seconds")
        # an ack is of what the control log says
        way = "; everlode scope ack ends that" if now_ms < cools.until_ms else ""
        return Stuck(f"{name}: the scope cools down until {until}{way}")
    for other in candidates(view):
        well = other.status == NodeStatus.HEALTHY and other.health > GATE
        if not other.excluded and well:
            return Decide(view.scope, led.epoch + 1, other.node_id, view.control.position)
    return Stuck(f"{name}: no other node is well")


@dataclass(slots=True)
class _Known:
    """What a coordinator keeps of one node."""

    verdict: tuple[str, int] | None = None
    """The last one that it is degraded or flaps: its id, and its wall ms."""
    used: set[str] = field(default_factory=set)
    well_since: float | None = None
    """Monotonic seconds since when it has been beating well."""


class Unsteady:
    """The degraded nodes of one region's services."""

    def __init__(
        self,
        region: str,
        heartbeats: Heartbeats,
        decisions: Decisions,
        policies: Policies,
        report: Sink = silent,
    ) -> None:
        self._region = region
        self._heartbeats = heartbeats
        self._decisions = decisions
        self._policies = policies
        self._report = report
        self._known: dict[str, _Known] = {}
        self._shown = Again(SHOWN_S)
        self._clock = WallClock()

    def observe(self, fact: Fact, data: NodeDegraded | NodeFlapping) -> None:
        """Fold a verdict of the detector; one that nobody may act on changes nothing."""
        if isinstance(data, NodeDegraded) and not data.actionable:
            return
        at_ms = millis_of(fact.envelope.stamp)
        self._of(fact.envelope.aggregate_id).verdict = fact.envelope.event_id, at_ms

    def turn(self, basis: Basis) -> None:
        """Note who is degraded, or well again, then replace. Raises: Unavailable."""
        for node in basis.control.nodes.values():
            if node.region == self._region and node.component in self._policies:
                self._note(basis, node)
        for component, policy in self._policies.items():
            led = basis.control.scopes.get(f"{component}/{self._region}")
            primary = basis.control.nodes.get(led.primary) if led else None
            if led is not None and primary is not None:
                fresh, opened = self._heartbeats.fresh(), policy.opened(led)
                view = View(basis.control, primary, fresh, opened, False, None)
                self._replace(view, basis, policy.opened_ms(led))

    def _replace(self, view: View[Any], basis: Basis, opened_ms: int | None) -> None:
        match replacement(view, self._clock.wall_ms(), opened_ms):
            case Decide(scope, _, primary, _):
                verdict = self._of(view.node.node_id).verdict
                loss = Loss(view.node, verdict[0] if verdict else None, UNSTEADY)
                self._decisions.assign(basis, scope, primary, loss)
            case Stuck(reason) if self._shown.due(reason):
                self._report(HandlingStuck(view.node.node_id, reason))

    def _note(self, basis: Basis, node: NodeState) -> None:
        known, beat = self._of(node.node_id), self._heartbeats.fresh().get(node.node_id)
        well = beat is not None and beat.status == NodeStatus.HEALTHY
        if not well:
            known.well_since = None
        elif known.well_since is None:
            known.well_since = time.monotonic()
        if node.status == NodeStatus.HEALTHY:
            self._degrade(basis, node, known)
        elif node.status == NodeStatus.DEGRADED and known.well_since is not None:
            if self._acknowledged(basis.control, node):
                self._decisions.note(node, NodeStatus.HEALTHY, "acknowledged", basis.epoch)
            elif time.monotonic() - known.well_since >= WELL_S:
                self._decisions.note(node, NodeStatus.HEALTHY, "it beats well", basis.epoch)

    def _degrade(self, basis: Basis, node: NodeState, known: _Known) -> None:
        verdict = known.verdict
        if verdict is None or verdict[0] in known.used:
            return
        if self._clock.wall_ms() - verdict[1] > RECENT_MS:
            return
        if self._decisions.note(node, NodeStatus.DEGRADED, verdict[0], basis.epoch):
            known.used.add(verdict[0])
            known.well_since = None

    def _acknowledged(self, control: ControlState, node: NodeState) -> bool:
        return control.wishes.ack(node.node_id, node.changed_at) is not None

    def _of(self, node_id: str) -> _Known:
        return self._known.setdefault(node_id, _Known())
