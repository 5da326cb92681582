"""What operators ask for, folded from the control log: one a scope, once, while it is open."""

from __future__ import annotations

from typing import Any

import pytest

from everlode.control.fold import MAX_TICKS
from everlode.control.wishes import KEPT, Wish
from everlode.events.base import Position
from everlode.events.control import (
    FreezeAsked,
    NodeJoined,
    OperatorAnswered,
    OperatorAsked,
    ScopeAssigned,
    ScopeDrained,
)
from everlode.events.nodes import NodeStatus
from tests.unit.test_control_grounds import COORDINATOR, TASKS, Log


def started() -> Log:
    """co-1 leads the region, `a` the tasks; `b` could follow."""
    log = Log()
    for node in ("a", "b"):
        log.join(node)
    log.take(COORDINATOR, "co-1")
    log.take(TASKS, "a")
    return log


def ask(log: Log, operation: str, verb: str, node: str = "", **more: Any) -> None:
    data = OperatorAsked.model_validate(
        {"operation_id": operation, "verb": verb, "scope_name": TASKS, "node_id": node,
         "operator": "ann", "reason": "", "expires_ms": 1, "based_on": log.state.position,
         "based_on_epoch": log.state.epoch(TASKS), **more}
    )  # fmt: skip
    log.append(TASKS, data, scope=TASKS)


def freeze(log: Log, operation: str, epoch: int = 1, by: int = 1) -> None:
    data = FreezeAsked(
        operation_id=operation, scope_name=TASKS, held_epoch=epoch, primary_node="a",
        target_node="b", limit_ms=1,
    )  # fmt: skip
    log.append(TASKS, data, epoch=by)


def drain(log: Log, operation: str, node: str = "a") -> None:
    at = (Position(topic="eu.1.tasks", partition=0, seq=7),)
    data = ScopeDrained(
        operation_id=operation, scope_name=TASKS, node_id=node, held_epoch=1, positions=at
    )
    log.append(TASKS, data, scope=TASKS, epoch=1)


def flip(log: Log, operation: str, reason: str = "switchover") -> str | None:
    data = log.plan(TASKS, "b")
    return log.land(
        ScopeAssigned.model_validate(
            {**data.model_dump(), "reason": reason, "operation_id": operation}
        )
    )


def answer(log: Log, operation: str, by: int = 1) -> None:
    data = OperatorAnswered(
        operation_id=operation, scope_name=TASKS, outcome="done", reason="b leads"
    )
    log.append(TASKS, data, epoch=by)


def the_open(log: Log) -> Wish:
    (wish,) = log.state.wishes.open
    return wish


def test_switchover_freezes_drains_decides_and_is_answered() -> None:
    log = started()
    ask(log, "one", "switchover")
    assert log.state.wishes.frozen(TASKS, 1) is None
    freeze(log, "one")
    assert log.state.wishes.frozen(TASKS, 1) is not None
    assert flip(log, "one") == "its primary has not drained in epoch 1"
    drain(log, "one")
    assert flip(log, "one") is None
    assert log.state.scopes[TASKS].primary == "b"
    assert log.state.wishes.frozen(TASKS, 2) is None, "the freeze was that of epoch 1"
    answer(log, "one")
    assert log.state.wishes.open == ()
    over = log.state.wishes.get("one")
    assert over is not None
    assert (over.outcome, over.why) == ("done", "b leads")


def test_of_two_wishes_about_a_scope_the_first_in_log_order_is_open() -> None:
    log = started()
    ask(log, "one", "switchover")
    ask(log, "two", "drain", "a", operator="bob")
    assert the_open(log).id == "one"
    assert log.state.wishes.get("two") is None
    answer(log, "one")
    ask(log, "two", "drain", "a", operator="bob")
    assert the_open(log).id == "two"


def test_wish_that_is_asked_again_is_carried_out_once() -> None:
    log = started()
    ask(log, "one", "switchover")
    freeze(log, "one")
    ask(log, "one", "switchover")
    assert the_open(log).freeze is not None, "it goes on where it was"
    answer(log, "one")
    ask(log, "one", "switchover")
    assert log.state.wishes.open == ()


def test_wish_that_lands_long_after_it_was_based_on_has_no_effect() -> None:
    log = started()
    based_on = log.state.position
    for _ in range(MAX_TICKS + 1):
        log.renew(COORDINATOR)
    ask(log, "one", "switchover", based_on=based_on)
    assert log.state.wishes.open == ()
    assert len(log.state.late) == 1, "kept: compaction removes the renewals that show it"


def test_decision_for_a_wish_that_is_over_is_void() -> None:
    log = started()
    ask(log, "one", "switchover")
    freeze(log, "one")
    drain(log, "one")
    answer(log, "one")
    assert flip(log, "one") == "operation one is not open"
    assert flip(log, "one", "forced") == "operation one is not open"
    assert log.state.scopes[TASKS].primary == "a"


def test_deposed_coordinator_neither_freezes_nor_answers() -> None:
    log = started()
    ask(log, "one", "switchover")
    log.take(COORDINATOR, "co-2")
    freeze(log, "one", by=1)
    answer(log, "one", by=1)
    assert the_open(log).freeze is None
    freeze(log, "one", by=2)
    assert the_open(log).freeze is not None


def test_only_the_frozen_primary_answers_and_only_in_its_epoch() -> None:
    log = started()
    ask(log, "one", "switchover")
    drain(log, "one")
    freeze(log, "one", epoch=2)
    assert the_open(log).freeze is None, "nobody leads in epoch 2"
    freeze(log, "one")
    drain(log, "one", node="b")
    assert the_open(log).drained is None
    drain(log, "one")
    assert the_open(log).drained is not None


def test_pause_ends_by_itself_at_its_time_and_by_resume() -> None:
    log = started()
    ask(log, "one", "pause", until_ms=1_000)
    assert log.state.wishes.pause(TASKS, 999) is not None
    assert log.state.wishes.pause(TASKS, 1_000) is None
    ask(log, "two", "pause")
    assert log.state.wishes.pause(TASKS, 1_000) is not None
    assert log.state.wishes.pause("rewards/eu", 1_000) is None
    ask(log, "three", "resume")
    assert log.state.wishes.pause(TASKS, 999) is None


def test_acknowledgement_is_of_one_loss_and_not_of_the_next() -> None:
    log = started()
    log.move("b", NodeStatus.LOST)
    lost_at = log.state.nodes["b"].changed_at
    ask(log, "one", "ack", "b", changed_at=lost_at)
    assert log.state.wishes.ack("b", lost_at) is not None
    log.move("b", NodeStatus.REJOINING)
    ask(log, "two", "ack", "b", changed_at=lost_at)
    assert log.state.wishes.get("two") is None, "that loss is over"
    assert log.state.wishes.ack("b", log.state.nodes["b"].changed_at) is None


@pytest.mark.parametrize("lost", [False, True])
def test_draining_node_drains_on_when_its_process_starts_anew(lost: bool) -> None:
    log = started()
    log.move("b", NodeStatus.DRAINING)
    if lost:
        log.move("b", NodeStatus.LOST)
    joined = NodeJoined(
        node_id="b", region="eu", component="task-manager", kind="", endpoint="e", priority=0,
        incarnation="b2",
    )  # fmt: skip
    log.append("b", joined)
    assert log.state.nodes["b"].status == "draining"
    assert log.state.incarnation("b") == "b2"


@pytest.mark.parametrize("back", [NodeStatus.HEALTHY, NodeStatus.REJOINING])
def test_node_that_was_taken_back_drains_no_more(back: NodeStatus) -> None:
    log = started()
    log.move("b", NodeStatus.DRAINING)
    if back == NodeStatus.REJOINING:
        log.move("b", NodeStatus.LOST)
    log.move("b", back)
    assert not log.state.nodes["b"].drains


def test_memory_of_ended_wishes_is_bounded() -> None:
    log = started()
    for n in range(KEPT + 50):
        ask(log, f"op-{n}", "pause")
    assert len(log.state.wishes.ended) == KEPT
    assert len(log.state.wishes.pauses) == 1
