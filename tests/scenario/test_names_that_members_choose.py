"""Two members choose one name: neither gets in the other's way."""

from __future__ import annotations

import pytest

from everlode.events import commands as c
from everlode.events.states import FraudState
from everlode.state.fraud import case_id, solution_case_id
from everlode.state.reward import reward_id
from tests.support.facts.state_commands import sha256_of, solution
from tests.support.world.state_home import Home

EQUAL = "answer-1"


def hand_in(home: Home, task: str, miner: str, task_type: str, answer: str) -> None:
    """A miner is given a task, and hands an answer in under the equal name."""
    home.begin(task, miner, task_type)
    home.carry_out("tasks", task, solution(miner, 1, EQUAL, sha256_of(answer), 100), home.now)
    home.drain()


def cases(home: Home) -> dict[str, tuple[str, tuple[str, ...], str | None]]:
    """Key → status, suspects and validation of each case."""
    found = (case for case in home.folds["fraud"].values() if isinstance(case, FraudState))
    return {case.key: (case.status, case.suspects, case.validation_id) for case in found}


@pytest.mark.parametrize("task_type", ["inference", "training"])
def test_two_tasks_solved_under_one_solution_id_are_both_judged_and_paid(task_type: str) -> None:
    home = Home()
    for task, miner in (("mine", "a"), ("theirs", "b")):
        hand_in(home, task, miner, task_type, answer=f"of {task}")
    for task, miner in (("mine", "a"), ("theirs", "b")):
        home.judge(task, good=True)
        assert home.state("tasks", task).status == "validated"
        home.pay(task, miner)
        assert home.state("tasks", task).status == "rewarded"
        assert home.state("rewards", reward_id(task, miner)).status == "paid"
        assert home.state("miners", miner).locks == {}


def test_two_copies_under_one_solution_id_have_a_case_each_and_each_is_resolved() -> None:
    home = Home()
    for task, miner in (("first", "a"), ("copy", "b"), ("other", "c")):
        hand_in(home, task, miner, "training", answer="equal")
    keys = [solution_case_id("copied-solution", f"v-{task}-1") for task in ("copy", "other")]
    assert set(cases(home)) == set(keys)
    home.vote("copy", "x", "expert", False, 0)
    home.vote("other", "x", "expert", True)
    assert cases(home) == {
        keys[0]: ("confirmed", ("b",), "v-copy-1"),
        keys[1]: ("cleared", ("c",), "v-other-1"),
    }
    assert home.state("rewards", reward_id("other", "c")).status == "calculated"


def test_case_that_an_older_build_opened_under_the_solution_id_is_resolved_and_not_doubled() -> (
    None
):
    home = Home()
    for task, miner in (("first", "a"), ("copy", "b")):
        hand_in(home, task, miner, "training", answer="equal")
    (case,) = [one for one in home.folds["fraud"].values() if isinstance(one, FraudState)]
    older = case_id("copied-solution", EQUAL)
    for view in home.views.values():  # as it stands in the log of an older build
        view.changed(case._replace(status="cleared"))
        view.changed(case._replace(key=older))
    del home.folds["fraud"][case.key]
    home.folds["fraud"][older] = case._replace(key=older)
    home.vote("copy", "x", "expert", False, 0)
    assert cases(home) == {older: ("confirmed", ("b",), "v-copy-1")}


def test_case_of_a_stranger_about_a_solution_ends_with_its_validation() -> None:
    home = Home()
    hand_in(home, "task", "a", "inference", answer="good")
    opened = c.OpenFraudCase.model_validate(
        {
            "rule": "impossible-speed",
            "suspects": ("a",),
            "task_id": "task",
            "validation_id": "v-task-1",
            "severity_ppm": 1,
            "evidence": ({"topic": "", "partition": -1, "offset": -1, "note": "n"},),
            "solver_id": "a",
        }
    )
    home.send("validations", "whatever", opened)
    home.vote("task", "auto", "automatic", True)
    assert home.state("rewards", reward_id("task", "a")).status == "calculated"
    home.vote("task", "x", "expert", True)
    assert cases(home)["whatever"][0] == "cleared"


def test_no_members_name_is_the_name_of_a_case_on_a_solution() -> None:
    about = solution_case_id("colluding-votes", "v-t-1")
    assert about not in {
        case_id("colluding-votes", name, n) for name in ("v-t-1", "t") for n in (1, 2)
    }
