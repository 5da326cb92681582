"""The failover planner: fence, promote, migrate; resumed anywhere it ends the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.control.fold import ControlState, apply
from everlode.events.base import Envelope, Event, Fact
from everlode.events.control import LeaseRenewed, NodeJoined, NodeStatusChanged, ScopeAssigned
from everlode.failover import planner
from everlode.failover.planner import (
    AwaitFence,
    Beating,
    Decide,
    Finish,
    Step,
    Stuck,
    View,
    candidates,
    operation_id,
)
from everlode.tasks.policy import MIGRATE_MOST, Migrate, TaskPolicy, TaskWork, migrate_id

POLICY = TaskPolicy(1, 1, timedelta(hours=1))
SCOPE = "task-manager/eu"


def plan(view: View[TaskWork]) -> Iterator[Step]:
    yield POLICY.plan(view)


def foresee(view: View[TaskWork]) -> Iterator[Step]:
    return planner.foresee(view, POLICY)


class World:
    """The logs as a coordinator sees them, and what each step does to them."""

    def __init__(self, nodes: Mapping[str, int], managed: Mapping[str, str], most: int) -> None:
        self.control = ControlState()
        self.manager = dict(managed)
        self.types: dict[str, str] = {}
        self.most = most
        self.opened = 0
        self.beating = dict.fromkeys(nodes, Beating(0, 0))
        self.decisions: list[ScopeAssigned] = []
        self.order: list[str] = []
        for node, priority in nodes.items():
            self.say(
                NodeJoined(
                    node_id=node, region="eu", component="task-manager", kind="",
                    endpoint="127.0.0.1:1", priority=priority,
                )
            )  # fmt: skip

    def say(self, data: Event) -> None:
        envelope = Envelope(
            event_id="e", aggregate_id="a", version=0, origin="control", scope="coordinator/eu",
            epoch=0, seq=0, stamp=1, occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
            correlation_id="c",
        )  # fmt: skip
        self.control = apply(self.control, self.control.position + 1, Fact(envelope, data))

    def assign(self, node: str, failed: str | None = None) -> None:
        epoch = self.control.epoch(SCOPE)
        decision = ScopeAssigned(
            scope_name=SCOPE, new_epoch=epoch + 1, primary_node=node, region="eu",
            reason="node-lost", failed_node=failed, based_on=max(0, self.control.position),
            based_on_epoch=epoch,
        )  # fmt: skip
        self.say(decision)
        self.decisions.append(decision)

    def open(self) -> None:
        """The primary's process reads the decision, fences and opens its epoch."""
        led = self.control.scopes[SCOPE]
        if led.primary in self.beating:
            self.opened = led.epoch
            self.say(
                LeaseRenewed(scope_name=SCOPE, node_id=led.primary, held_epoch=led.epoch, nonce="n")
            )

    def lose(self, node: str) -> None:
        self.beating.pop(node, None)
        status = NodeStatusChanged(
            node_id=node, region="eu", from_status="healthy", to_status="lost", reason="r"
        )
        self.say(status)

    def view(self, node: str) -> View[TaskWork]:
        led = self.control.scopes.get(SCOPE)
        state = self.control.nodes[node]
        decided = (
            led is not None
            and led.decision.failed_node == node
            and led.decided_at > state.changed_at
        )
        mine = tuple(sorted(t for t, n in self.manager.items() if n == node))
        return View(
            self.control, state, self.beating, self.opened, decided,
            TaskWork(mine, Counter(self.manager.values()), self.most, self.types),
        )  # fmt: skip

    def do(self, step: Step) -> None:
        """Carry a step out; moves are checked as the primary would."""
        self.order.append(type(step).__name__)
        match step:
            case Decide():
                assert step.new_epoch == self.control.epoch(SCOPE) + 1
                self.assign(step.primary, self._failed())
            case AwaitFence():
                self.open()
            case Migrate():
                led = self.control.scopes[SCOPE]
                assert self.opened == led.epoch, "migrates before the fence"
                for task, node in step.moves:
                    if self.manager.get(task) == step.from_node:
                        self.manager[task] = node
            case Stuck() | Finish():
                pass

    def _failed(self) -> str:
        return self.control.scopes[SCOPE].primary


def started(managed: Mapping[str, str], most: int = 10_000) -> World:
    world = World({"a": 3, "b": 2, "c": 1}, managed, most)
    world.assign("a")
    world.open()
    world.order.clear()
    return world


def run(world: World, lost: str, *, limit: int = 50) -> Finish:
    for _ in range(limit):
        for step in plan(world.view(lost)):
            world.do(step)
            if isinstance(step, Finish):
                return step
    raise AssertionError(world.order)


def test_lost_primary_is_fenced_replaced_and_its_tasks_move_in_this_order() -> None:
    world = started({f"t{i}": "a" for i in range(10)})
    world.lose("a")
    assert run(world, "a") == Finish("secondary-promoted", "b", True)
    assert world.order == ["Decide", "AwaitFence", "Migrate", "Finish"]
    assert Counter(world.manager.values()) == {"b": 5, "c": 5}


def test_lost_secondary_is_removed_and_its_tasks_move() -> None:
    world = started({"t1": "b", "t2": "a"})
    world.lose("b")
    assert run(world, "b") == Finish("secondary-removed", None, True)
    assert world.control.epoch(SCOPE) == 1
    assert "b" not in world.manager.values()


def test_lost_node_without_work_needs_no_migration() -> None:
    world = started({})
    world.lose("c")
    assert run(world, "c").action == "secondary-removed"
    assert world.order == ["Finish"]


def test_node_whose_scope_another_region_has_taken_leaves_nothing_that_is_waited_for() -> None:
    world = World({"a": 0, "b": 0}, {"t1": "b"}, 9)
    world.assign("a")
    world.open()
    led = world.control.scopes[SCOPE]._replace(primary="us-tm-1", epoch=3, region="us")
    taken = MappingProxyType({SCOPE: led})
    world.lose("b")
    view = world.view("b")
    view = view._replace(control=replace(world.control, scopes=taken))
    assert list(plan(view)) == [Finish("secondary-removed", None, True)]


def test_second_loss_of_the_same_node_is_another_operation() -> None:
    world = started({})
    world.lose("a")
    first = world.control.nodes["a"]
    run(world, "a")
    world.say(
        NodeStatusChanged(
            node_id="a", region="eu", from_status="lost", to_status="rejoining", reason="r"
        )
    )
    world.say(
        NodeStatusChanged(
            node_id="a", region="eu", from_status="rejoining", to_status="healthy", reason="r"
        )
    )
    world.lose("a")
    assert operation_id(world.control.nodes["a"]) != operation_id(first)
    assert run(world, "a").action == "secondary-removed"  # it led nothing this time


def test_new_primary_that_dies_before_it_opened_is_replaced_too() -> None:
    world = started({"t": "a"})
    world.lose("a")
    world.do(next(iter(plan(world.view("a")))))
    world.lose("b")
    assert isinstance(next(iter(plan(world.view("a")))), AwaitFence)  # nothing moves before
    assert run(world, "b").new_primary == "c"
    run(world, "a")
    assert world.manager == {"t": "c"}


def test_nobody_to_promote_says_so_and_does_nothing() -> None:
    world = started({"t": "a"})
    for node in "bca":
        world.lose(node)
    steps = list(plan(world.view("a")))
    assert [type(s) for s in steps] == [Stuck]
    assert isinstance(steps[0], Stuck)
    assert "no node" in steps[0].reason


def test_nobody_with_room_waits_and_fills_up_what_there_is() -> None:
    world = started({f"t{i}": n for i, n in enumerate("aaab")}, most=2)
    world.lose("a")
    world.beating.pop("c")
    with pytest.raises(AssertionError):
        run(world, "a", limit=10)
    assert Counter(world.manager.values()) == {"a": 2, "b": 2}
    world.beating["c"] = Beating(0, 0)
    run(world, "a")
    assert Counter(world.manager.values()) == {"b": 2, "c": 2}


def test_node_that_is_back_meanwhile_ends_the_handling() -> None:
    world = started({"t": "a"})
    world.lose("a")
    world.say(
        NodeJoined(
            node_id="a", region="eu", component="task-manager", kind="", endpoint="x", priority=3
        )
    )
    assert list(plan(world.view("a"))) == [Finish("secondary-removed", None, False)]


def test_candidates_come_best_first_with_the_reason_of_each_exclusion() -> None:
    world = World({"a": 0, "b": 5, "c": 5, "d": 9, "e": 8}, {}, 10)
    world.lose("a")
    world.lose("d")
    world.beating.pop("e")
    world.beating["b"] = Beating(3, 700_000)
    world.beating["c"] = Beating(3, 200_000)
    found = candidates(world.view("a"))
    assert [(c.node_id, c.excluded) for c in found] == [
        ("c", ""), ("b", ""), ("e", "it does not beat"), ("d", "it is lost"),
        ("a", "it is the lost node"),
    ]  # fmt: skip


@pytest.mark.parametrize("lost", ["a", "b"])
def test_dry_run_foresees_what_is_then_done(lost: str) -> None:
    world = started({f"t{i:03}": "abc"[i % 3] for i in range(700)})
    world.lose(lost)
    foreseen = [type(s).__name__ for s in foresee(world.view(lost))]
    before = dict(world.manager)
    end = run(world, lost)
    assert foreseen == world.order
    world.manager = before
    assert list(foresee(world.view(lost)))[-1] == end


def test_dry_run_changes_nothing() -> None:
    world = started({"t": "a"})
    world.lose("a")
    view = world.view("a")
    list(foresee(view))
    assert world.view("a") == view


def test_many_tasks_move_in_batches() -> None:
    world = started({f"t{i:04}": "a" for i in range(2 * MIGRATE_MOST + 1)})
    world.lose("a")
    run(world, "a")
    assert world.order.count("Migrate") == 3


def test_command_id_of_a_move_names_its_operation_and_nobody_knows_it_beforehand() -> None:
    first, second = migrate_id("o"), migrate_id("o")
    assert first.startswith("o/")
    assert first != second


@given(
    st.dictionaries(st.integers(0, 400).map(str), st.sampled_from("abc"), max_size=300),
    st.sampled_from("abc"),
    st.data(),
)
def test_any_coordinator_resumes_from_any_prefix_and_ends_the_same(
    managed: dict[str, str], lost: str, data: st.DataObject
) -> None:
    """A coordinator that is killed has done a prefix of the steps, perhaps a part of one."""
    world = started(managed)
    world.lose(lost)
    action = ""
    for _ in range(60):
        step = next(iter(plan(world.view(lost))))
        if isinstance(step, Finish):
            action = step.action
            break
        assert not isinstance(step, Stuck)
        if isinstance(step, Migrate):  # killed within the batch
            done = data.draw(st.integers(1, len(step.moves)))
            step = Migrate(step.from_node, step.moves[:done])
        world.do(step)
        if data.draw(st.booleans()):  # and a stale copy of the step lands again
            world.say(world.decisions[-1])
            if isinstance(step, Migrate):
                world.do(step)
    assert action == ("secondary-promoted" if lost == "a" else "secondary-removed")
    assert lost not in world.manager.values()
    assert world.manager.keys() == managed.keys()
    assert {t: n for t, n in managed.items() if n != lost}.items() <= world.manager.items()
    assert world.control.epoch(SCOPE) == (2 if lost == "a" else 1)


def test_candidate_that_is_not_well_comes_last_whatever_its_priority() -> None:
    world = World({"a": 0, "b": 9, "c": 5, "d": 5, "e": 1, "f": 9}, {}, 10)
    world.beating |= {
        "b": Beating(0, 0, "degraded"), "f": Beating(0, 500_000, "draining"),
        "c": Beating(0, 1_000_000), "d": Beating(0, 900_000),
    }  # fmt: skip
    world.assign("a")
    world.lose("a")
    found = candidates(world.view("a"))
    assert [c.node_id for c in found] == ["d", "c", "e", "f", "b", "a"]
    assert [c.health for c in found] == [0.931, 0.841, 1.0, 0.8, 0.5, 0.0]
    assert [c.excluded for c in found if c.node_id == "b"] == [""]
