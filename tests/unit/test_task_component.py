"""What a task primary owes by time: ends at the deadline, assignments that stakes cover."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from everlode.control.fold import ControlState
from everlode.events import commands as c
from everlode.events import miners as me
from everlode.events.base import Event
from everlode.events.states import TaskState
from everlode.log.facts import LoggedFact
from everlode.primary.component import Owed
from everlode.state import dispatch
from everlode.tasks.component import INSTANT, TaskComponent
from everlode.tasks.timers import SLACK, Timers
from everlode.topics import Topology
from tests.support.facts.state_commands import NOW, fact_of, register, submit

SOON = NOW + timedelta(hours=1)
MINUTE = timedelta(minutes=1)


class Node:
    """A task primary on its own, and the registry that it sees."""

    def __init__(self) -> None:
        self.component = TaskComponent("eu", Topology(), "eu-tm-1", timedelta(minutes=10), 99)
        self.count = 0
        self.miners: dict[str, int] = {}

    def event(self, key: str, data: Event, at: datetime = NOW) -> None:
        """An own fact."""
        self.count += 1
        state = self.component.folds.get("tasks", key)
        version = 1 + (state.version if state else 0)
        fact = fact_of(data, key, self.count, version=version, scope="task-manager/eu", at=at)
        self.component.folds.fold(LoggedFact(fact, 0, self.count))

    def do(self, key: str, command: Any, at: datetime = NOW) -> None:
        """A command, decided and folded."""
        state = self.component.folds.get("tasks", key)
        for data in dispatch.decide("tasks", command, state, dispatch.Context(key, "eu", at)):
            self.event(key, data, at)

    def carry_out(self, owed: Owed) -> None:
        """What it owes is done."""
        self.do(owed.aggregate_id, owed.command, owed.at)

    def miner(self, key: str, data: Event, at: datetime = NOW) -> None:
        """A fact of the registry."""
        version = self.miners[key] = self.miners.get(key, 0) + 1
        self.component.observe(
            fact_of(data, key, version, version=version, scope="miner-registry/eu", at=at)
        )

    def rich(self, key: str, stake: int = 10**9) -> None:
        """A miner with a stake."""
        self.miner(key, me.MinerRegistered(**register().__dict__))
        self.miner(key, me.StakeDeposited(amount_micro=stake))

    def due(self, now: datetime) -> list[Owed]:
        """What it owes, when all that was stored by now has been read."""
        return [*self.component.over(now), *self.component.due(now, ControlState())]

    def ends(self, now: datetime) -> list[Owed]:
        """Tasks that it ends."""
        return [owed for owed in self.due(now) if isinstance(owed.command, c.ExpireTask)]

    def assigned(self, now: datetime = NOW) -> dict[str, str]:
        """Task → miner of what it assigns now; carried out."""
        found = {}
        for owed in self.due(now):
            assert isinstance(owed.command, c.AssignTask)
            found[owed.aggregate_id] = owed.command.miner_id
            self.carry_out(owed)
        return found


def test_task_that_nobody_took_is_ended_once_at_its_deadline_whoever_leads() -> None:
    first, second = Node(), Node()
    for node in (first, second):
        node.do("late", submit(deadline_at=SOON))
        node.do("never", submit(deadline_at=SOON, gpus=999))
        node.do("early", submit(deadline_at=SOON + timedelta(days=1)))
        assert node.ends(SOON - MINUTE) == []
    owed = first.ends(SOON)
    assert {o.aggregate_id for o in owed} == {"late", "never"}
    assert {o.at for o in owed} == {SOON}
    assert first.ends(SOON + MINUTE) == owed  # again until it is in the log
    assert second.ends(SOON + 9 * MINUTE) == owed  # a successor owes the same
    for each in owed:
        first.carry_out(each)
    assert first.ends(SOON + MINUTE) == []
    state = first.component.folds.get("tasks", "late")
    assert isinstance(state, TaskState)
    assert (state.status, state.reason, state.ended_at) == ("cancelled", "deadline_passed", SOON)


def test_assigned_task_is_ended_after_its_lease_not_under_its_miner() -> None:
    node = Node()
    node.rich("m")
    node.do("t", submit(deadline_at=SOON))
    assert node.assigned(SOON - MINUTE) == {"t": "m"}
    assert node.due(SOON) == []
    (expired,) = node.due(SOON + MINUTE)
    assert isinstance(expired.command, c.ExpireLease)
    assert expired.at == SOON + INSTANT  # whoever leads, and however late
    node.carry_out(expired)
    (ended,) = node.due(SOON + MINUTE)
    node.carry_out(ended)
    state = node.component.folds.get("tasks", "t")
    assert isinstance(state, TaskState)
    assert (state.status, node.due(SOON + MINUTE)) == ("cancelled", [])


def test_miner_gets_no_more_tasks_at_once_than_its_free_stake_covers() -> None:
    node = Node()
    node.rich("m", stake=500_000)
    for n in range(4):
        node.do(f"t{n}", submit())  # locks 200000 each
    assert node.assigned() == {"t0": "m", "t1": "m"}
    assert node.assigned() == {}  # promised, though the registry has locked nothing yet
    node.miner("m", me.StakeLocked(task_id="t0", amount_micro=200_000))
    node.miner("m", me.StakeLocked(task_id="t1", amount_micro=200_000))
    assert node.assigned() == {}
    node.do("cheap", submit(base_reward_micro=500_000))
    assert node.assigned() == {"cheap": "m"}
    node.miner("m", me.StakeDeposited(amount_micro=200_000))
    assert node.assigned() == {"t2": "m"}


def test_newer_state_of_a_miner_counts_at_once() -> None:
    node = Node()
    for key in ("a", "b"):
        node.rich(key, stake=10**9)
    node.do("first", submit())
    assert len(node.assigned()) == 1  # the candidates are listed now
    node.miner("a", me.StakeSlashed(case_id="c", amount_micro=10**9, from_locked_micro=0))
    for n in range(5):
        node.do(f"t{n}", submit())
    assert set(node.assigned().values()) == {"b"}
    better = me.ReputationChanged(
        delta_ppm=1, reputation_ppm=900_000, reason="accepted", subject_id="s"
    )
    node.miner("a", better)
    candidates = node.component._roster.of("inference")
    assert {m.key: m.reputation_ppm for m in candidates} == {"a": 900_000, "b": 500_000}


def test_tasks_that_came_before_their_miner_are_assigned_when_it_comes() -> None:
    node = Node()
    node.do("a", submit())
    node.do("b", submit())
    assert node.assigned() == {}  # nobody can take them, and no other task waits
    node.rich("m")
    assert node.assigned() == {"a": "m", "b": "m"}


def test_task_that_came_before_its_miner_goes_before_those_that_came_after() -> None:
    node = Node()
    node.do("a", submit())
    assert node.assigned() == {}
    node.do("b", submit())
    node.rich("m", 200_000)  # for one of them
    assert node.assigned() == {"a": "m"}


def test_deadlines_of_tasks_that_wait_no_more_are_neither_kept_nor_looked_for() -> None:
    node = Node()
    folds = node.component.folds
    for number in range(2 * SLACK):
        node.do(f"t{number}", submit(deadline_at=SOON))
        node.do(f"t{number}", c.CancelTask(reason="no more"))
        folds.evict(("tasks", f"t{number}"))
    node.do("open", submit(deadline_at=SOON))

    def find(_: str, key: str) -> None:
        raise AssertionError(f"{key} is asked for in the archive")

    folds.find = find
    assert node.ends(NOW) == []
    assert len(node.component._deadlines) <= SLACK + 2
    assert [owed.aggregate_id for owed in node.ends(SOON)] == ["open"]


def test_timers_give_what_has_passed_until_it_is_set_or_dropped() -> None:
    timers = Timers()
    for number, key in enumerate(("c", "b", "a")):
        timers.set(key, NOW + number * MINUTE)
    assert (timers.first(), timers.passed(NOW - MINUTE)) == (NOW, [])
    assert timers.passed(NOW + MINUTE) == timers.passed(NOW + MINUTE) == ["c", "b"]
    assert timers.first() == NOW + 2 * MINUTE
    timers.set("c", SOON)  # prolonged after all
    timers.drop("b")
    assert timers.passed(SOON - MINUTE) == ["a"]
    assert (timers.passed(SOON), timers.first()) == (["a", "c"], None)
    for number in range(3 * SLACK):
        timers.set("c", SOON + number * MINUTE)
    assert len(timers) <= SLACK + 8


def test_turn_that_nobody_can_take_asks_each_miner_a_few_times_however_many_tasks_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rewards fall, so that no task is covered by what was found of the one before it."""
    node, asked = Node(), Counter[str]()
    for n in range(20):
        node.rich(f"m{n}", stake=1_000)
    for n in range(500):
        node.do(f"t{n}", submit(base_reward_micro=2_000_000 - n))

    def counted(task: TaskState, candidates: Any, *more: Any) -> None:
        asked.update([task.task_type])

    monkeypatch.setattr("everlode.tasks.component.choose_miner", counted)
    assert node.assigned() == {}
    assert asked == {"inference": 1}


def test_turn_goes_on_behind_what_the_last_one_looked_at_and_comes_to_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("everlode.tasks.component.LOOK_MOST", 10)
    node = Node()
    node.rich("m", stake=200_000)
    for n in range(25):
        node.do(f"dear{n}", submit(base_reward_micro=2_000_000))
    node.do("cheap", submit(base_reward_micro=1_000_000))
    assert [node.assigned(), node.assigned(), node.assigned()] == [{}, {}, {"cheap": "m"}]
    node.miner("m", me.StakeDeposited(amount_micro=10**9))
    assert set(node.assigned()) == {f"dear{n}" for n in range(8)}  # its most at once, with cheap


def test_assignments_of_a_turn_are_bounded_and_the_next_one_takes_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("everlode.tasks.component.ASSIGN_MOST", 3)
    node = Node()
    node.rich("m")
    for n in range(7):
        node.do(f"t{n}", submit())
    assert [list(node.assigned()) for _ in range(3)] == [
        ["t0", "t1", "t2"],
        ["t3", "t4", "t5"],
        ["t6"],
    ]


def test_miner_that_fails_at_once_gets_nothing_for_a_while_whoever_leads() -> None:
    first, second = Node(), Node()
    for node in (first, second):
        for key in ("bad", "good"):
            node.rich(key)
        for n in range(3):
            at = NOW + timedelta(seconds=n)
            done = me.PerformanceRecorded(
                task_id=f"old{n}", outcome="failed", work_ms=0, score_ppm=0, attempt=1
            )
            node.miner("bad", done, at)
        for n in range(4):
            node.do(f"t{n}", submit(deadline_at=SOON))
    soon, later = NOW + timedelta(seconds=3), NOW + 5 * MINUTE
    assert set(first.assigned(soon).values()) == {"good"}
    assert second.assigned(soon) == dict.fromkeys([f"t{n}" for n in range(4)], "good")
    for n in range(40):
        first.do(f"u{n}", submit(deadline_at=SOON))
    assert "bad" in set(first.assigned(later).values())
