"""A decision counts only while all that it was planned on still holds, whenever it lands."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.control.fold import ControlState, apply
from everlode.errors import Unavailable
from everlode.events.base import Envelope, Event, Fact
from everlode.events.control import LeaseRenewed, NodeJoined, NodeStatusChanged, ScopeAssigned
from everlode.events.nodes import NodeStatus
from everlode.failover.decisions import Basis, Decisions, Loss, decision

TASKS, COORDINATOR = "task-manager/eu", "coordinator/eu"


class Log:
    """A control log, and who reads it."""

    def __init__(self) -> None:
        self.records: list[Fact] = []
        self.state = ControlState()
        self.now_ms = 0

    def append(
        self,
        key: str,
        data: Event,
        *,
        node_id: str = "co",
        scope: str = COORDINATOR,
        epoch: int = 0,
    ) -> int:
        envelope = Envelope(
            event_id="e", aggregate_id=key, version=0, origin="control", scope=scope, epoch=epoch,
            seq=0, stamp=max(1, self.now_ms << 16),
            occurred_at=datetime(2026, 1, 1, tzinfo=UTC), correlation_id=node_id,
        )  # fmt: skip
        self.records.append(Fact(envelope, data))
        self.state = apply(self.state, len(self.records) - 1, self.records[-1])
        return len(self.records) - 1

    def join(self, node: str) -> None:
        joined = NodeJoined(
            node_id=node, region="eu", component="task-manager", kind="", endpoint="e", priority=0
        )
        self.append(node, joined)

    def move(self, node: str, new: NodeStatus) -> None:
        """As the coordinator that leads does it."""
        known = self.state.nodes[node]
        data = NodeStatusChanged.model_validate(
            {"node_id": node, "region": "eu", "from_status": known.status, "to_status": new,
             "reason": "r", "changed_at": known.changed_at}
        )  # fmt: skip
        self.append(node, data, epoch=self.state.epoch(COORDINATOR))

    def renew(self, scope: str) -> None:
        """Its primary does."""
        led = self.state.scopes[scope]
        renewed = LeaseRenewed(
            scope_name=scope, node_id=led.primary, held_epoch=led.epoch, nonce="n"
        )
        self.append(scope, renewed, scope=scope, epoch=led.epoch)

    def plan(self, scope: str, primary: str, lost: str | None = None) -> ScopeAssigned:
        """What a coordinator that leads decides now; of its own scope, one that wants to lead."""
        loss = Loss(self.state.nodes[lost]) if lost else None
        basis = Basis(self.state, self.state.epoch(COORDINATOR))
        return decision(basis, "eu", scope, primary, loss)

    def take(self, scope: str, primary: str, lost: str | None = None) -> None:
        """Decide, and write it at once."""
        self.land(self.plan(scope, primary, lost))

    def land(self, data: ScopeAssigned) -> str | None:
        """Write a decision; why it is void, or None when it counts."""
        at = self.append(data.scope_name, data, epoch=data.coordinator_epoch or 0)
        return next((v.reason for v in self.state.void if v.offset == at), None)


def lost_primary() -> Log:
    """co-1 leads the region, `a` the tasks, and `a` is lost; `b` and `c` could follow."""
    log = Log()
    for node in ("a", "b", "c"):
        log.join(node)
    log.take(COORDINATOR, "co-1")
    log.take(TASKS, "a")
    log.move("a", NodeStatus.LOST)
    return log


def test_decision_whose_grounds_hold_counts() -> None:
    log = lost_primary()
    assert log.land(log.plan(TASKS, "b", "a")) is None
    assert (log.state.epoch(TASKS), log.state.scopes[TASKS].primary) == (2, "b")


def test_decision_for_a_loss_that_another_has_handled_is_void() -> None:
    log = lost_primary()
    late = log.plan(TASKS, "b", "a")
    log.take(COORDINATOR, "co-2")
    log.take(TASKS, "c", "a")
    assert log.land(late) == "based on epoch 1, the current one is 2"
    assert log.state.scopes[TASKS].primary == "c"


def test_decision_of_an_older_coordinator_is_void_though_its_scope_has_not_moved() -> None:
    log = lost_primary()
    late = log.plan(TASKS, "b", "a")
    log.take(COORDINATOR, "co-2")
    assert log.land(late) == "decided in epoch 1 of coordinator/eu, the current one is 2"
    assert log.state.epoch(TASKS) == 1


def test_decision_about_a_node_that_was_taken_back_is_void() -> None:
    log = lost_primary()
    late = log.plan(TASKS, "b", "a")
    log.move("a", NodeStatus.REJOINING)
    assert log.land(late) == "a is rejoining since offset 6"
    log.move("a", NodeStatus.LOST)
    assert log.land(late) == "a is lost since offset 8"  # another loss, not yet planned for
    assert log.land(log.plan(TASKS, "b", "a")) is None


def test_coordinator_that_renews_before_the_decision_lands_is_not_deposed() -> None:
    log = lost_primary()
    late = log.plan(COORDINATOR, "co-2")
    log.renew(COORDINATOR)
    assert log.land(late) == "co-1 has renewed at 6, after offset 5"
    assert log.land(log.plan(COORDINATOR, "co-2")) is None


def test_renewals_of_a_lost_primary_do_not_keep_it() -> None:
    log = lost_primary()
    late = log.plan(TASKS, "b", "a")
    log.renew(TASKS)  # cut off from its region, not from the control log
    assert log.land(late) is None


def test_status_of_a_node_that_has_joined_anew_is_left_out() -> None:
    log = lost_primary()
    old = log.state.nodes["b"]
    log.join("b")
    data = NodeStatusChanged(
        node_id="b", region="eu", from_status="healthy", to_status="lost", reason="r",
        changed_at=old.changed_at,
    )  # fmt: skip
    log.append("b", data, epoch=1)
    assert log.state.nodes["b"].status == "healthy"


def test_records_without_grounds_are_folded_as_they_always_were() -> None:
    log = lost_primary()
    late = log.plan(TASKS, "b", "a").model_copy(update={"coordinator_epoch": None, "lost_at": None})
    log.take(COORDINATOR, "co-2")
    log.move("a", NodeStatus.REJOINING)
    assert log.land(late) is None


Write = tuple[str, str]
WRITES = st.tuples(
    st.sampled_from(["join", "lost", "back", "renew-tasks", "renew-co", "tasks", "coordinator"]),
    st.sampled_from("abc"),
)


def write(log: Log, item: Write) -> None:
    """One lawful or needless record."""
    kind, node = item
    match kind:
        case "join":
            log.join(node)
        case "lost":
            log.move(node, NodeStatus.LOST)
        case "back":
            log.move(node, NodeStatus.REJOINING)
        case "renew-tasks":
            log.renew(TASKS)
        case "renew-co":
            log.renew(COORDINATOR)
        case "tasks":
            log.take(TASKS, node, log.state.scopes[TASKS].primary)
        case _:
            log.take(COORDINATOR, node)


def grounds(log: Log, data: ScopeAssigned) -> tuple[object, ...]:
    """What a decision is about."""
    state, scope = log.state, data.scope_name
    failed = state.nodes.get(data.failed_node or "")
    return (
        state.epoch(scope),
        state.epoch(COORDINATOR),
        failed and failed.changed_at,
        state.scopes[COORDINATOR].renewed_at if scope == COORDINATOR else None,
    )


@given(
    st.lists(WRITES, max_size=12),
    st.sampled_from([TASKS, COORDINATOR]),
    st.lists(WRITES, max_size=8),
)
def test_planned_decision_counts_exactly_when_its_grounds_have_not_passed(
    before: list[Write], scope: str, between: list[Write]
) -> None:
    """`between` the plan and the write, anybody may write; the rest is law."""
    log = lost_primary()
    for item in before:
        write(log, item)
    lost = log.state.scopes[TASKS].primary if scope == TASKS else None
    planned = log.plan(scope, "c", lost)
    then = grounds(log, planned)
    for item in between:
        write(log, item)
    held = grounds(log, planned) == then
    assert (log.land(planned) is None) is held


class Agent:
    """A coordinator's membership: what it has read, and whether its lease is good."""

    def __init__(self, log: Log) -> None:
        self.log, self.epoch = log, 1
        self.identity = SimpleNamespace(node_id="co-1", region="eu")

    def leads(self, scope: str) -> int | None:
        assert scope == COORDINATOR
        return self.epoch or None


@pytest.mark.parametrize("epoch", [0, 2], ids=["leads no more", "leads anew"])
def test_coordinator_writes_nothing_that_it_planned_in_an_epoch_that_is_over(epoch: int) -> None:
    log = lost_primary()
    agent = Agent(log)
    decisions = Decisions(cast("Any", agent))
    planned, a, b = Basis(log.state, 1), log.state.nodes["a"], log.state.nodes["b"]
    agent.epoch = epoch
    count = len(log.records)
    decisions.assign(planned, TASKS, "b", Loss(a))
    assert not decisions.note(b, NodeStatus.LOST, "r", 1)
    assert len(log.records) == count
    agent.epoch = 1
    decisions.assign(planned, TASKS, "b", Loss(a))
    assert log.state.scopes[TASKS].primary == "b"


def test_decision_is_written_as_it_was_planned_whatever_was_read_since() -> None:
    log = lost_primary()
    planned = Basis(log.state, 1)
    Decisions(cast("Any", Agent(log))).assign(planned, TASKS, "b", Loss(log.state.nodes["a"]))
    again = Decisions(cast("Any", Agent(log)))  # another process, which planned the same
    again.assign(planned, TASKS, "c", Loss(planned.control.nodes["a"]))
    assert [f.data.new_epoch for f in log.records if isinstance(f.data, ScopeAssigned)][2:] == [
        2,
        2,
    ]
    assert (log.state.epoch(TASKS), log.state.scopes[TASKS].primary) == (2, "b")


def test_decision_that_may_still_land_is_not_written_again_until_its_grounds_are_others() -> None:
    log = lost_primary()
    agent = Agent(log)
    decisions, sent = Decisions(cast("Any", agent)), list[Event]()

    class Silent:
        def append(self, _key: str, data: Event, **_: Any) -> int:
            sent.append(data)
            raise Unavailable("no answer")

    agent.log = cast("Any", Silent())
    for _ in range(3):
        with suppress(Unavailable):
            decisions.assign(Basis(log.state, 1), TASKS, "b", Loss(log.state.nodes["a"]))
    assert len(sent) == 1
    log.move("a", NodeStatus.REJOINING)
    log.move("a", NodeStatus.LOST)
    with pytest.raises(Unavailable):
        decisions.assign(Basis(log.state, 1), TASKS, "b", Loss(log.state.nodes["a"]))
