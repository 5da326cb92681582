"""Who of a region is lost, fenced or back: noted in the control log. Shell.

healthy ──┬── a verdict that counts ─────────────────────────► lost ────┐
   ▲      └── it leads, but does not renew while others do ──► fenced ──┤
   │                                                                    │
   └── it beats for 3 s ── rejoining ◄── handled, and beats for 3 s ────┤
                           draining  ◄── it was drained before that ────┘
"""

from __future__ import annotations

import time
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from everlode.control.fold import ControlState, NodeState
from everlode.detection.detector import mass_silence
from everlode.events.base import Evidence
from everlode.events.nodes import TRANSITIONS, NodeStatus
from everlode.failover.decisions import Decisions
from everlode.failover.heartbeats import Heartbeats
from everlode.failover.limits import Limits
from everlode.failover.operations import Verdict
from everlode.failover.planner import GONE

STEADY_S = 3.0
"""A node that beats again for this long is taken back."""
LATE_MS, LATE_S = 3_000, 3.0
"""A verdict by silence that comes so much later than the silence says is of a detector that was
stopped itself; the node has so long to beat, before it is believed."""


@dataclass(slots=True)
class Watched:
    """What a coordinator keeps of one node."""

    verdict: Verdict | None = None
    """The last one that it is lost."""
    observed_at: float = 0.0
    """Monotonic seconds at which it was read."""
    used: set[str] = field(default_factory=set)
    """Verdicts that have been acted on."""
    changed_at: int = -1
    """Control offset of the status that `steady_since` is about."""
    steady_since: float | None = None
    """Monotonic seconds since when it has been beating."""

    def steady_for(self, changed_at: int, beats: bool) -> float:
        """Seconds that the node has been beating for in this status; 0 when it does not."""
        if changed_at != self.changed_at or not beats:
            self.changed_at, self.steady_since = changed_at, None
        if beats and self.steady_since is None:
            self.steady_since = time.monotonic()
        return 0.0 if self.steady_since is None else time.monotonic() - self.steady_since


class Statuses:
    """The nodes of one region. `components`: those whose losses are handled."""

    def __init__(
        self,
        region: str,
        heartbeats: Heartbeats,
        decisions: Decisions,
        components: Set[str],
        limits: Limits,
    ) -> None:
        self._region = region
        self._heartbeats = heartbeats
        self._decisions = decisions
        self._components = components
        self._silent_ticks = limits.silent_ticks
        self._watched: dict[str, Watched] = {}

    def observe(self, node_id: str, verdict: Verdict) -> None:
        """A verdict of the detector; one that nobody may act on changes nothing."""
        if verdict.lost.actionable:
            watched = self._of(node_id)
            watched.verdict, watched.observed_at = verdict, time.monotonic()

    def begun(self, node_id: str, evidence: Sequence[Evidence]) -> None:
        """The node's last handling began with this evidence: its verdict has been acted on.

        Whoever did so may have died: by the control log alone a node that is back, and has not
        beaten yet, would be lost again by the verdict that it was lost by.
        """
        watched = self._of(node_id)
        if evidence and watched.verdict and tuple(watched.verdict.lost.evidence) == tuple(evidence):
            watched.used.add(watched.verdict.id)

    def verdict(self, node_id: str) -> Verdict | None:
        """The last verdict that a node is lost."""
        return self._of(node_id).verdict

    def note(self, control: ControlState, node: NodeState, epoch: int, handled: bool) -> None:
        """Note the node's next status, if it has one. `handled`: its loss is over and done with."""
        watched = self._of(node.node_id)
        verdict = watched.verdict
        if node.status in GONE:
            if verdict is not None:
                watched.used.add(verdict.id)
            if self._may_return(control, node, handled) and self._steady(node):
                back = NodeStatus.DRAINING if node.drains else NodeStatus.REJOINING
                self._decisions.note(node, back, "it beats again", epoch)
        elif verdict is not None and self._counts(control, node, verdict):
            if self._decisions.note(node, NodeStatus.LOST, verdict.id, epoch):
                watched.used.add(verdict.id)
        elif self._cut_off(control, node):
            allowed = TRANSITIONS[NodeStatus(node.status)]
            new = NodeStatus.FENCED if NodeStatus.FENCED in allowed else NodeStatus.LOST
            self._decisions.note(node, new, "its lease is not renewed", epoch)
        elif node.status == NodeStatus.REJOINING and self._steady(node):
            self._decisions.note(node, NodeStatus.HEALTHY, "it beats", epoch)

    def _of(self, node_id: str) -> Watched:
        return self._watched.setdefault(node_id, Watched())

    def _counts(self, control: ControlState, node: NodeState, verdict: Verdict) -> bool:
        """The verdict has not been acted on, the node has not beaten since, and its detector was
        neither blind nor late: by silence alone no node is lost while most of the region are
        silent, nor by what a detector makes of its own pause.
        """
        used = verdict.id in self._of(node.node_id).used
        if used or self._heartbeats.since(node.node_id, verdict.lost.evidence):
            return False
        if verdict.lost.rule != "phi":
            return True
        return not self._late(node.node_id, verdict) and not self._blind(control)

    def _late(self, node_id: str, verdict: Verdict) -> bool:
        silent_ms = self._heartbeats.silent_ms(node_id)
        known_s = time.monotonic() - self._of(node_id).observed_at
        if silent_ms is None or known_s >= LATE_S:
            return False
        return silent_ms - known_s * 1000 - verdict.lost.silence_ms >= LATE_MS

    def _blind(self, control: ControlState) -> bool:
        known = {
            n.node_id
            for n in control.nodes.values()
            if n.region == self._region and n.status not in GONE
        }
        return mass_silence(len(known - self._heartbeats.fresh().keys()), len(known))

    def _cut_off(self, control: ControlState, node: NodeState) -> bool:
        """It leads, but the log has gone on for longer than its lease without it."""
        if node.component not in self._components:
            return False
        led = control.scopes.get(f"{node.component}/{self._region}")
        if led is None or led.primary != node.node_id:
            return False
        mark = max(led.renewed_at, led.decided_at, node.joined_at)
        ticks = sum(1 for tick in control.ticks.get(self._region, ()) if tick > mark)
        return ticks > self._silent_ticks

    def _may_return(self, control: ControlState, node: NodeState, handled: bool) -> bool:
        """Once its loss has been handled, or when it leads again because no other node could."""
        led = control.scopes.get(f"{node.component}/{self._region}")
        if led is not None and led.primary == node.node_id:
            return led.renewed_at > node.changed_at
        return node.component not in self._components or handled

    def _steady(self, node: NodeState) -> bool:
        beats = node.node_id in self._heartbeats.fresh()
        return self._of(node.node_id).steady_for(node.changed_at, beats) >= STEADY_S
