"""Who is special in a type of task gets it first, and nobody's work is left to nobody."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.balancing.judges import Judging, first_for, first_judges
from everlode.balancing.specialties import by_specialty
from everlode.errors import ConfigError
from everlode.events.control import NodeJoined
from everlode.events.tasks import TaskAssigned, TaskCancelled, TaskMigrated
from everlode.failover.planner import Stuck
from everlode.processes.node import NodeSpec, _specialties
from everlode.tasks.policy import Migrate, TaskPolicy
from everlode.tasks.turn import Managers
from everlode.topics import Topology
from tests.simulation.test_failover_simulation import NOW, fact
from tests.unit.test_failover_planner import World, plan

NODES = {"a": ("training",), "b": (), "c": ("inference", "training"), "d": ("evaluation",)}
NAMES = st.lists(st.sampled_from(["x", "y", "z"]), unique=True).map(tuple)


def test_named_come_first_then_who_names_none_then_who_names_others() -> None:
    assert [*by_specialty("training", NODES)] == [("a", "c"), ("b",), ("d",)]
    assert [*by_specialty("data-processing", NODES)] == [("b",), ("a", "c", "d")]
    assert [*by_specialty("training", {"a": (), "b": ()})] == [("a", "b")]


@given(st.dictionaries(st.text(max_size=3), NAMES), st.sampled_from(["x", "y", "w"]))
def test_every_node_stands_in_one_group(nodes: dict[str, tuple[str, ...]], type_: str) -> None:
    found = [node for some in by_specialty(type_, nodes) for node in some]
    assert sorted(found) == sorted(nodes)


def test_special_judges_come_first_and_others_only_where_they_do_not_suffice() -> None:
    judges = {node: Judging(1.0, names) for node, names in NODES.items()}
    for key in (f"eu/v{n}" for n in range(200)):
        first = first_for(key, "training", judges, 1)
        assert first == first_judges(key, {"a": 1.0, "c": 1.0}, 1)
        assert first_for(key, "training", judges, 3) == (
            *first_judges(key, {"a": 1.0, "c": 1.0}, 2), "b",
        )  # fmt: skip
        assert set(first_for(key, "training", judges, 9)) == set(NODES)
    alike = {node: Judging(0.5) for node in NODES}
    assert first_for("k", "training", alike, 2) == first_judges("k", dict.fromkeys(NODES, 0.5), 2)


def test_task_is_managed_by_who_is_special_in_it_while_one_of_them_has_room() -> None:
    managed = dict.fromkeys(NODES, 0)
    managers = Managers(managed, dict.fromkeys(NODES, 1.0), NODES)
    chosen = []
    for n in range(8):
        node = managers.choose(f"t{n}", "training", 2)
        assert node is not None
        managed[node] += 1
        chosen.append(node)
    assert sorted(chosen[:4]) == ["a", "a", "c", "c"]
    assert chosen[4:] == ["b", "b", "d", "d"]
    assert managers.choose("t9", "training", 2) is None, "all are full"


def test_tasks_of_a_lost_node_go_to_who_is_special_in_them_while_one_has_room() -> None:
    kinds = {"t1": "training", "t2": "training", "t3": "training", "t4": "inference", "t5": ""}
    world = World({"a": 3, "b": 2, "c": 1}, dict.fromkeys(kinds, "c"), 2)
    world.assign("a")
    world.open()
    world.types = kinds
    world.say(
        NodeJoined(
            node_id="b", region="eu", component="task-manager", kind="", endpoint="127.0.0.1:1",
            priority=2, specialties=("training",),
        )
    )  # fmt: skip
    world.lose("c")
    step = next(s for s in plan(world.view("c")) if isinstance(s, Migrate | Stuck))
    assert isinstance(step, Migrate)
    assert dict(step.moves) == {"t1": "b", "t2": "b", "t3": "a", "t4": "a"}, "t5: all are full"


def test_type_of_a_task_is_known_while_it_is_under_way() -> None:
    policy = TaskPolicy(2, 100, timedelta(hours=1))
    assigned = TaskAssigned(
        attempt=1, miner_id="m", manager_node="a", lease_until=NOW, base_reward_micro=1,
        task_type="training",
    )  # fmt: skip
    moved = TaskMigrated(
        attempt=2, miner_id="m", from_node="a", to_node="b", lease_until=NOW
    )  # fmt: skip
    policy.observe(0, fact("t1", assigned))
    policy.observe(0, fact("t2", assigned.model_copy(update={"task_type": None})))
    policy.observe(0, fact("t1", moved, 2))
    assert policy.work("b").types == {"t1": "training", "t2": ""}
    policy.observe(0, fact("t1", TaskCancelled(reason="r"), 3))
    assert policy.work("b").types == {"t2": ""}


def test_node_refuses_a_specialty_that_it_cannot_have() -> None:
    topology = Topology(task_types=("training", "inference"))
    node = NodeSpec("validator", "eu", "v", specialties=("training",))
    assert _specialties(node, topology) == ("training",)
    with pytest.raises(ConfigError, match=r"traning: no such type of task") as wrong:
        _specialties(node._replace(specialties=("training", "traning")), topology)
    assert wrong.value.hint == "one of: training, inference"
    with pytest.raises(ConfigError, match="no validator of peer review is chosen by it"):
        _specialties(node._replace(validator_kind="peer-review"), topology)
    with pytest.raises(ConfigError, match="no miner-registry is chosen by it"):
        _specialties(node._replace(kind="miner-registry"), topology)
