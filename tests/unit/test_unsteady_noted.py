"""What a coordinator notes of nodes that live and do not do their work, and when it takes it back.

The logs are lists; the coordinator's part is the real one. Clocks are the machine's, so nothing
here waits: what must have lasted long is made so.
"""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from everlode.events.base import Evidence, Fact
from everlode.events.control import OperatorAsked
from everlode.events.health import NodeDegraded, NodeFlapping
from everlode.events.nodes import NodeStatus
from everlode.failover import unsteady
from everlode.failover.decisions import Basis, Decisions
from everlode.failover.heartbeats import Heartbeats
from everlode.failover.policy import of_all
from everlode.failover.unsteady import RECENT_MS, Unsteady
from everlode.miners.policy import MinerPolicy
from tests.scenario.test_detection_scenarios import beat
from tests.unit.test_control_grounds import COORDINATOR, Log

SCOPE = "miner-registry/eu"
SEEN = (Evidence(topic="eu.1.heartbeats", partition=0, offset=1, note="it said so first"),)


class Region:
    """Registries a and b; a leads. A coordinator of its own memory."""

    def __init__(self) -> None:
        self.log = Log()
        for node in ("a", "b"):
            self.log.join(node)
        nodes = {
            name: node._replace(component="miner-registry")
            for name, node in self.log.state.nodes.items()
        }
        self.log.state = replace(self.log.state, nodes=nodes)
        self.log.take(COORDINATOR, "co-1")
        self.log.take(SCOPE, "a")
        self.log.renew(SCOPE)
        self.heartbeats = Heartbeats()
        self.agent = cast("Any", SimpleNamespace(
            identity=SimpleNamespace(node_id="co-1", region="eu"), log=self.log,
            leads=lambda _: 1, control=self.log.state,
        ))  # fmt: skip
        self.decisions = Decisions(self.agent)
        self.coordinator = self.another()
        for node in ("a", "b"):
            self.beats(node)

    def another(self) -> Unsteady:
        """A coordinator that has just begun."""
        return Unsteady("eu", self.heartbeats, self.decisions, of_all([MinerPolicy()]))

    def beats(self, node: str, status: str = "healthy", *, leads: bool = True) -> None:
        """`leads`: it says so, if it was chosen."""
        made = beat(node, 0, status=status)
        role = "primary" if leads and node == self.primary else "secondary"
        data = made.data.model_copy(update={"role": role})
        self.heartbeats.observe(made._replace(data=data), 0, 1, behind=False)

    def verdict(
        self, node: str, *, rule: str = "says-so", actionable: bool = True, age_ms: int = 0
    ) -> None:
        data = NodeDegraded(
            component="miner-registry", rule=rule, actionable=actionable, evidence=SEEN
        )
        self.observe(node, data, age_ms)

    def observe(self, node: str, data: NodeDegraded | NodeFlapping, age_ms: int = 0) -> None:
        made = beat(node, 0)
        stamp = (time.time_ns() // 1_000_000 - age_ms) << 16
        head = made.envelope.model_copy(update={"stamp": stamp, "event_id": f"v-{stamp}"})
        self.coordinator.observe(Fact(head, data), data)

    def turn(self) -> None:
        self.coordinator.turn(Basis(self.log.state, 1))

    @property
    def primary(self) -> str:
        return self.log.state.scopes[SCOPE].primary

    def status(self, node: str) -> str:
        return self.log.state.nodes[node].status


def test_primary_that_says_so_is_noted_and_then_replaced_once() -> None:
    region = Region()
    region.beats("a", "degraded")
    region.verdict("a")
    region.turn()
    assert (region.status("a"), region.primary) == ("degraded", "a")
    region.turn()
    assert region.primary == "b"
    decision = region.log.state.scopes[SCOPE].decision
    assert (decision.reason, decision.failed_node) == ("node-unsteady", "a")
    assert decision.verdict_id is not None
    for _ in range(3):
        region.turn()
    assert region.log.state.epoch(SCOPE) == 2


def test_primary_that_says_that_it_does_not_lead_yet_is_not_replaced() -> None:
    """Nothing else says when a registry has opened its epoch: its lease is renewed before."""
    region = Region()
    region.log.move("a", NodeStatus.DEGRADED)
    region.beats("a", "degraded", leads=False)
    region.turn()
    assert region.primary == "a"
    region.beats("a", "degraded")
    region.turn()
    assert region.primary == "b"


def test_node_that_flaps_is_noted_too() -> None:
    region = Region()
    flaps = NodeFlapping(component="miner-registry", changes=4, window_ms=60_000, evidence=SEEN)
    region.observe("b", flaps)
    region.turn()
    assert (region.status("b"), region.primary) == ("degraded", "a")


@pytest.mark.parametrize("verdict", [
    {"actionable": False, "rule": "idle"}, {"age_ms": RECENT_MS + 1_000},
], ids=["idle", "old"])  # fmt: skip
def test_verdict_that_asks_for_nothing_or_is_old_changes_nothing(verdict: Any) -> None:
    region = Region()
    region.verdict("a", **verdict)
    region.turn()
    assert (region.status("a"), region.primary) == ("healthy", "a")


def test_degraded_node_is_healthy_once_it_has_beaten_well_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    region = Region()
    region.verdict("b")
    region.turn()
    region.turn()
    assert region.status("b") == "degraded"
    monkeypatch.setattr(unsteady, "WELL_S", 0.0)
    region.beats("b", "degraded")
    region.turn()
    assert region.status("b") == "degraded", "it says that it is not well"
    region.beats("b")
    region.turn()
    assert region.status("b") == "healthy"
    region.turn()
    assert region.status("b") == "healthy", "the same verdict is used once"


def test_acknowledged_node_is_healthy_as_soon_as_it_beats_well() -> None:
    region = Region()
    region.verdict("b")
    region.turn()
    node = region.log.state.nodes["b"]
    asked = OperatorAsked(
        operation_id="op", verb="ack", scope_name=SCOPE, node_id="b", operator="ann", reason="",
        expires_ms=2**50, based_on=region.log.state.position, based_on_epoch=1,
        changed_at=node.changed_at,
    )  # fmt: skip
    region.log.append(SCOPE, asked)
    region.beats("b", "degraded")
    region.turn()
    assert region.status("b") == "degraded"
    region.beats("b")
    region.turn()
    assert region.status("b") == NodeStatus.HEALTHY


def test_another_coordinator_goes_on_where_the_first_was_killed() -> None:
    region = Region()
    region.log.move("a", NodeStatus.DEGRADED)  # the first one noted it, and died
    region.coordinator = region.another()
    region.beats("a", "degraded")
    region.turn()
    assert region.primary == "b"
