"""The control log: everyone who folds it agrees, and an epoch has one primary."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.control.fold import MAX_TICKS, RULES, ControlState, apply, why_void
from everlode.control.scopes import Scope
from everlode.errors import ContractError
from everlode.events.base import Envelope, Event, Fact
from everlode.events.catalogue import EVENTS
from everlode.events.control import (
    BackupLeased,
    BackupMade,
    BackupReleased,
    GenerationSwitched,
    IncarnationOpened,
    LeaseRenewed,
    NodeJoined,
    NodeStatusChanged,
    ScopeAssigned,
)
from everlode.events.nodes import TRANSITIONS, NodeStatus

TASKS = "task-manager/eu"
COORDINATOR = "coordinator/eu"


def fact(data: Event, scope: str = COORDINATOR, epoch: int = 0) -> Fact:
    envelope = Envelope(
        event_id="e", aggregate_id="a", version=0, origin="control", scope=scope, epoch=epoch,
        seq=0, stamp=1, occurred_at=datetime(2026, 1, 1, tzinfo=UTC), correlation_id="c",
    )  # fmt: skip
    return Fact(envelope, data)


def assigned(node: str, epoch: int, *, on: int = 0, scope: str = TASKS) -> ScopeAssigned:
    return ScopeAssigned(
        scope_name=scope, new_epoch=epoch, primary_node=node, region="eu", reason="node-lost",
        based_on=on, based_on_epoch=epoch - 1,
    )  # fmt: skip


def renewed(node: str, epoch: int, scope: str = TASKS) -> LeaseRenewed:
    return LeaseRenewed(scope_name=scope, node_id=node, held_epoch=epoch, nonce="n")


def joined(node: str, priority: int = 0) -> NodeJoined:
    return NodeJoined(
        node_id=node, region="eu", component="task-manager", kind="", endpoint="127.0.0.1:1",
        priority=priority,
    )  # fmt: skip


def status(node: str, old: str, new: str) -> NodeStatusChanged:
    return NodeStatusChanged.model_validate(
        {"node_id": node, "region": "eu", "from_status": old, "to_status": new, "reason": "r"}
    )


def folded(*events: Event | Fact) -> ControlState:
    state = ControlState()
    for offset, item in enumerate(events):
        state = apply(state, offset, item if isinstance(item, Fact) else fact(item))
    return state


def test_every_event_of_the_control_topic_has_a_rule() -> None:
    assert set(RULES) == {kind.model for kind in EVENTS.values() if kind.topic == "control"}


def test_decision_first_in_log_order_wins_and_the_second_is_void() -> None:
    state = folded(assigned("a", 1), assigned("b", 1))
    assert (state.scopes[TASKS].primary, state.scopes[TASKS].epoch) == ("a", 1)
    assert [(v.decision.primary_node, v.offset) for v in state.void] == [("b", 1)]


def test_worked_picture_of_the_fold_is_true() -> None:
    """The table at the head of `control.fold`, row by row, from offset 7."""
    state = ControlState(position=6)
    after = []
    for record in (
        assigned("a", 1), renewed("a", 1), assigned("b", 2), assigned("c", 2),
        renewed("a", 1), renewed("b", 2),
    ):  # fmt: skip
        state = apply(state, state.position + 1, fact(record))
        leads = state.scopes[TASKS]
        after.append((state.position, leads.primary, leads.epoch, leads.renewed_at))
    assert after == [
        (7, "a", 1, -1), (8, "a", 1, 8), (9, "b", 2, -1), (10, "b", 2, -1),
        (11, "b", 2, -1), (12, "b", 2, 12),
    ]  # fmt: skip
    assert [(v.offset, v.reason) for v in state.void] == [
        (10, "based on epoch 1, the current one is 2")
    ]


def test_decision_that_skips_an_epoch_is_void() -> None:
    skips = assigned("b", 2).model_copy(update={"based_on_epoch": 0})
    state = folded(assigned("a", 1), skips.model_copy(update={"new_epoch": 3, "based_on_epoch": 1}))
    assert state.scopes[TASKS].primary == "a"
    assert "next one is 2" in state.void[0].reason


@pytest.mark.parametrize(("passed", "counts"), [(MAX_TICKS, True), (MAX_TICKS + 1, False)])
def test_decision_that_ticks_have_passed_by_is_void(passed: int, counts: bool) -> None:
    ticks = [renewed("co", 1, COORDINATOR)] * passed
    state = folded(assigned("co", 1, scope=COORDINATOR), assigned("a", 1), *ticks)
    late = assigned("b", 2, on=1)
    assert (why_void(state, late, "eu") is None) is counts
    after = apply(state, state.position + 1, fact(late))
    assert after.scopes[TASKS].primary == ("b" if counts else "a")


def test_ticks_of_another_region_void_nothing() -> None:
    other = "coordinator/us"
    ticks = [renewed("us-co", 1, other)] * 50
    state = folded(assigned("us-co", 1, scope=other), assigned("a", 1), *ticks, assigned("b", 2))
    assert state.scopes[TASKS].primary == "b"


def test_renewal_of_a_deposed_primary_counts_for_nothing() -> None:
    state = folded(assigned("a", 1), assigned("b", 2), renewed("a", 1), renewed("b", 1))
    assert state.scopes[TASKS].renewed_at == -1
    assert apply(state, 9, fact(renewed("b", 2))).scopes[TASKS].renewed_at == 9


def test_record_seen_before_changes_nothing() -> None:
    state = folded(assigned("a", 1), assigned("b", 2))
    assert apply(state, 0, fact(assigned("c", 3, on=1))) is state


def test_node_that_was_lost_comes_back_as_rejoining() -> None:
    state = folded(joined("a"), status("a", "healthy", "lost"))
    assert (state.nodes["a"].status, state.nodes["a"].changed_at) == ("lost", 1)
    assert apply(state, 2, fact(joined("a"))).nodes["a"].status == "rejoining"


def test_status_from_another_status_than_the_nodes_own_changes_nothing() -> None:
    state = folded(joined("a"), status("a", "healthy", "lost"), joined("a"))
    late = apply(state, 3, fact(status("a", "healthy", "lost")))
    assert late.nodes["a"].status == "rejoining"


def test_status_from_a_deposed_coordinator_changes_nothing() -> None:
    state = folded(
        joined("a"),
        assigned("co-1", 1, scope=COORDINATOR),
        assigned("co-2", 2, scope=COORDINATOR, on=1),
        fact(status("a", "healthy", "lost"), epoch=1),
    )
    assert state.nodes["a"].status == "healthy"
    assert (
        apply(state, 9, fact(status("a", "healthy", "lost"), epoch=2)).nodes["a"].status == "lost"
    )


@given(st.lists(st.sampled_from(list(NodeStatus)), max_size=12))
def test_node_status_follows_the_table_whatever_is_written(path: list[NodeStatus]) -> None:
    state = folded(joined("a"))
    now = NodeStatus.HEALTHY
    for offset, new in enumerate(path, start=1):
        state = apply(state, offset, fact(status("a", now, new)))
        now = new if new in TRANSITIONS[now] else now
        assert state.nodes["a"].status == now


def test_nodes_are_ordered_by_priority_then_id() -> None:
    state = folded(joined("c", 1), joined("b", 1), joined("a"))
    assert [n.node_id for n in state.nodes_of("eu", "task-manager")] == ["b", "c", "a"]


def test_generation_never_goes_back_and_origin_follows_the_log() -> None:
    switched = [GenerationSwitched(region="eu", generation=g, operation_id="o") for g in (2, 3, 2)]
    opened = IncarnationOpened(region="eu", new_origin="eu.2", accepted=())
    state = folded(*switched, opened)
    assert (state.generations["eu"], state.origins["eu"]) == (3, "eu.2")


def test_backup_lease_belongs_to_the_first_until_its_own_release() -> None:
    first, second = (BackupLeased(region="eu", operation_id=o, holder="h") for o in ("one", "two"))
    state = folded(first, second, BackupReleased(region="eu", operation_id="two"))
    assert state.backups["eu"].operation_id == "one"
    assert not apply(state, 9, fact(BackupReleased(region="eu", operation_id="one"))).backups


def test_newest_backup_is_the_one_with_the_greatest_id_in_whatever_order_they_are_noted() -> None:
    made = [
        BackupMade(region="eu", backup_id=b, manifest_sha256=b[-1] * 64, created_at_ms=1)
        for b in ("2026-a", "2026-c", "2026-b", "2026-c")
    ]
    state = folded(*made, BackupMade(**{**dict(made[0]), "region": "us"}))
    assert state.newest["eu"] == made[1]
    assert state.newest["us"].backup_id == "2026-a"


# Any log: decisions by anybody about two scopes, on any epoch and position, and renewals.
_events = st.one_of(
    st.builds(
        lambda scope, node, new, based, on: ScopeAssigned(
            scope_name=scope,
            new_epoch=new,
            primary_node=node,
            region="eu",
            reason="node-lost",
            based_on=on,
            based_on_epoch=based,
        ),
        st.sampled_from([TASKS, COORDINATOR]),
        st.sampled_from("abc"),
        st.integers(0, 5),
        st.integers(0, 5),
        st.integers(0, 40),
    ),
    st.builds(
        renewed, st.sampled_from("abc"), st.integers(0, 5), st.sampled_from([TASKS, COORDINATOR])
    ),
    st.builds(joined, st.sampled_from("abc")),
)


@given(st.lists(_events, max_size=60))
def test_any_log_gives_no_two_primaries_in_one_epoch(log: list[Event]) -> None:
    primaries: dict[tuple[str, int], set[str]] = defaultdict(set)
    state = ControlState()
    for offset, event in enumerate(log):
        before = {name: scope.epoch for name, scope in state.scopes.items()}
        state = apply(state, offset, fact(event))
        for name, scope in state.scopes.items():
            primaries[name, scope.epoch].add(scope.primary)
            assert scope.epoch - before.get(name, 0) in (0, 1)
    assert all(len(who) == 1 for who in primaries.values())


@given(st.lists(_events, max_size=60), st.data())
def test_any_log_everyone_who_folds_it_agrees_and_void_stays_void(
    log: list[Event], data: st.DataObject
) -> None:
    whole = folded(*log)
    cut = data.draw(st.integers(0, len(log)))
    state = folded(*log[:cut])
    void = {v.offset for v in state.void}
    for offset in range(data.draw(st.integers(0, cut)), len(log)):  # reads some of it again
        state = apply(state, offset, fact(log[offset]))
    assert state == whole
    assert void <= {v.offset for v in whole.void}


def test_scope_names_go_both_ways_and_others_are_refused() -> None:
    for component in ("tasks", "miners", "validations", "rewards", "coordinator"):
        assert Scope.parse(str(Scope(component, "eu"))) == (component, "eu")
    for bad in ("task-manager", "task-manager/", "tasks/eu", ""):
        with pytest.raises(ContractError):
            Scope.parse(bad)
