"""The shells of a coordinator for operators' wishes and pauses, on a control log in memory."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from everlode.control.cooldown import UNSTEADY
from everlode.events.control import (
    NodeJoined,
    OperatorAnswered,
    OperatorAsked,
    ScopeAssigned,
    ScopeDrained,
)
from everlode.events.nodes import NodeStatus
from everlode.events.recovery import OperationStarted, RegistryChanged, TaskManagerRecoveryEnded
from everlode.failover.carrier import Carrier, Parts
from everlode.failover.decisions import Basis, Loss
from everlode.failover.handler import Handler
from everlode.failover.heartbeats import Heartbeats, LastHeartbeat
from everlode.failover.limits import Limits
from everlode.failover.policy import Succession, of_all
from everlode.miners.policy import MinerPolicy
from everlode.telemetry.entry import Entry
from tests.unit.test_control_grounds import COORDINATOR, TASKS, Log
from tests.unit.test_failover_watch import beat

NODES = ("a", "b", "c")
MINERS = "miner-registry/eu"


class TaskSuccession(Succession):
    """Of task managers without tasks."""

    service: Any = SimpleNamespace(
        scope="task-manager", operation="task-manager-failover", ended=TaskManagerRecoveryEnded
    )

    def ended(self, end: Any) -> Any:
        return TaskManagerRecoveryEnded(
            failed_node=end.node.node_id, recovery_action=end.action,
            new_primary=end.new_primary, migrated_tasks=0, actual_recovery_ms=0, detect_ms=0,
            success=end.success,
        )  # fmt: skip


class Region:
    """co-1 leads the region, `a` the tasks; all beat."""

    def __init__(self) -> None:
        self.log = Log()
        for node in NODES:
            self.log.join(node)
        self.log.take(COORDINATOR, "co-1")
        self.log.take(TASKS, "a")
        self.log.renew(TASKS)
        self.published: list[Any] = []
        self.reported: list[Entry] = []
        heartbeats, policies = Heartbeats(), of_all([TaskSuccession(), MinerPolicy()])
        for node in NODES:
            heartbeats.last[node] = LastHeartbeat(beat(), 0, 0, time.monotonic())
        self.heartbeats = heartbeats
        region = self

        class Agent:
            identity = SimpleNamespace(region="eu", node_id="co-1")
            log = self.log

            @property
            def control(self) -> Any:
                return region.log.state

            def control_at(self, _: int) -> Any:
                return region.log.state

            def leads(self, scope: str) -> int | None:
                return region.log.state.epoch(scope)

            def signal(self, data: Any, **_: Any) -> None:
                region.published.append(data)

        agent: Any = Agent()
        orders: Any = SimpleNamespace(free=lambda: True)
        limits = Limits(12_000, 2000)
        report = self.reported.append
        self.handler = Handler(agent, heartbeats, policies, orders, limits, report=report)
        parts = Parts(agent, heartbeats, policies, orders, self.handler.decisions)
        self.carrier = Carrier(parts, self.handler.log.ended, report)

    def turn(self) -> None:
        """As a coordinator's turn has it."""
        epoch = self.log.state.epoch(COORDINATOR)
        self.carrier.turn(Basis(self.log.state, epoch))
        self.handler.turn(epoch)

    def ask(self, verb: str, node: str = "", **more: Any) -> None:
        now_ms = time.time_ns() // 1_000_000
        data = OperatorAsked.model_validate(
            {"operation_id": f"{verb}-1", "verb": verb, "scope_name": TASKS, "node_id": node,
             "operator": "ann", "reason": "", "expires_ms": now_ms + 60_000,
             "based_on": self.log.state.position, "based_on_epoch": self.log.state.epoch(TASKS),
             **more}
        )  # fmt: skip
        self.log.append(TASKS, data, scope=TASKS)

    def of(self, kind: type) -> list[Any]:
        return [f.data for f in self.log.records if isinstance(f.data, kind)]


def test_switchover_is_carried_to_its_answer_once() -> None:
    region = Region()
    region.ask("switchover", "c")
    for _ in range(3):
        region.turn()
    wish = region.log.state.wishes.frozen(TASKS, 1)
    assert wish is not None
    drained = ScopeDrained(
        operation_id=wish.id, scope_name=TASKS, node_id="a", held_epoch=1, positions=()
    )
    region.log.append(TASKS, drained, scope=TASKS, epoch=1)
    for _ in range(3):
        region.turn()
    assert region.log.state.scopes[TASKS].primary == "c"
    assert region.of(OperatorAnswered) == [], "its epoch is not open yet"
    region.log.renew(TASKS)
    for _ in range(3):
        region.turn()
    (answer,) = region.of(OperatorAnswered)
    assert (answer.outcome, answer.reason) == ("done", "c leads in epoch 2")
    assert [d.reason for d in region.of(ScopeAssigned) if d.operation_id] == ["switchover"]


def with_registries() -> Region:
    """m-1 leads the miner registries, and m-2 is well."""
    region = Region()
    for node in ("m-1", "m-2"):
        joined = NodeJoined(
            node_id=node, region="eu", component="miner-registry", kind="",
            endpoint=f"{node}:1", priority=0,
        )  # fmt: skip
        region.log.append(node, joined)
        region.heartbeats.last[node] = LastHeartbeat(beat(), 0, 0, time.monotonic())
    region.log.take(MINERS, "m-1")
    region.log.renew(MINERS)
    return region


def told(region: Region) -> list[tuple[str, str, int, str]]:
    for _ in range(3):
        region.turn()
    return [
        (d.from_node, d.to_node, d.scope_epoch, d.endpoint)
        for d in region.published if isinstance(d, RegistryChanged)
    ]  # fmt: skip


def test_miners_hear_of_a_registry_that_was_switched_over_once_it_leads() -> None:
    region = with_registries()
    assert told(region) == [], "the first one follows nobody"
    region.ask("switchover", scope_name=MINERS, based_on_epoch=1)
    assert told(region) == []
    drained = ScopeDrained(
        operation_id="switchover-1", scope_name=MINERS, node_id="m-1", held_epoch=1, positions=()
    )
    region.log.append(MINERS, drained, scope=MINERS, epoch=1)
    assert told(region) == [], "it has not opened its epoch"
    assert region.log.state.scopes[MINERS].primary == "m-2"
    region.log.renew(MINERS)
    assert told(region) == [("m-1", "m-2", 2, "m-2:1")]
    assert [a.outcome for a in region.of(OperatorAnswered)] == ["done"]


def test_miners_hear_of_a_registry_that_replaces_an_unsteady_one() -> None:
    region = with_registries()
    basis = Basis(region.log.state, region.log.state.epoch(COORDINATOR))
    loss = Loss(region.log.state.nodes["m-1"], reason=UNSTEADY)
    region.handler.decisions.assign(basis, MINERS, "m-2", loss)
    assert told(region) == []
    region.log.renew(MINERS)
    assert told(region) == [("m-1", "m-2", 2, "m-2:1")]


def test_switchover_whose_time_is_over_ends_the_freeze() -> None:
    region = Region()
    region.ask("switchover", "c", expires_ms=time.time_ns() // 1_000_000 + 60_000)
    region.turn()
    assert region.log.state.wishes.frozen(TASKS, 1) is not None
    late = Region()
    late.ask("switchover", "c", expires_ms=1)
    late.turn()
    (answer,) = late.of(OperatorAnswered)
    assert (answer.outcome, answer.reason) == ("timed-out", "a goes on as before")
    assert late.log.state.wishes.frozen(TASKS, 1) is None


def test_pause_holds_a_failover_and_its_end_lets_it_go() -> None:
    region = Region()
    region.ask("pause")
    region.log.move("a", NodeStatus.LOST)
    del region.heartbeats.last["a"]
    for _ in range(3):
        region.turn()
    assert region.log.state.epoch(TASKS) == 1
    assert any("paused by ann" in entry.text for entry in region.reported)
    assert any(isinstance(data, OperationStarted) for data in region.published), "it is noted"
    region.ask("resume")
    region.turn()
    assert (region.log.state.epoch(TASKS), region.log.state.scopes[TASKS].primary) == (2, "b")


def test_pause_ends_by_itself() -> None:
    region = Region()
    region.ask("pause", until_ms=time.time_ns() // 1_000_000 + 60_000)
    region.log.move("a", NodeStatus.LOST)
    del region.heartbeats.last["a"]
    region.turn()
    assert region.log.state.epoch(TASKS) == 1
    over = Region()
    over.ask("pause", until_ms=time.time_ns() // 1_000_000 - 1)
    over.log.move("a", NodeStatus.LOST)
    del over.heartbeats.last["a"]
    over.turn()
    assert over.log.state.epoch(TASKS) == 2


def test_failover_that_is_asked_for_goes_on_in_a_pause_and_to_the_node_that_is_named() -> None:
    region = Region()
    region.ask("pause")
    region.ask("failover", "c")
    for _ in range(4):
        region.turn()
    assert region.log.state.nodes["a"].status == "lost"
    led = region.log.state.scopes[TASKS]
    assert (led.primary, led.epoch, led.decision.reason) == ("c", 2, "forced")
    assert led.decision.failed_node == "a"


def test_failover_that_is_asked_for_is_not_overtaken_by_the_loss_that_it_makes() -> None:
    """The best node would be `b`: the handler of losses waits until the wish has ended."""
    region = Region()
    region.ask("failover", "c")
    for _ in range(4):
        region.turn()
    assert region.log.state.scopes[TASKS].primary == "c"
    region.log.renew(TASKS)
    for _ in range(4):
        region.turn()
    assert [a.outcome for a in region.of(OperatorAnswered)] == ["done"]
    ended = [d for d in region.published if isinstance(d, TaskManagerRecoveryEnded)]
    assert [(e.failed_node, e.new_primary, e.success) for e in ended] == [("a", "c", True)]
