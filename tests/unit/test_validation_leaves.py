"""When a validation may leave its primary's memory."""

from __future__ import annotations

from everlode.events.barriers import Barrier
from everlode.events.states import FraudState
from everlode.state.ended import ended
from everlode.state.view import Where
from everlode.topics import Topology
from everlode.validations.component import ValidationComponent
from tests.support.facts.judged import judged
from tests.support.facts.state_commands import NOW, fact_of

TOPOLOGY = Topology(regions=("eu",), partitions=2)


def test_validation_leaves_once_all_that_was_handed_in_before_it_is_read() -> None:
    """What was handed in earlier, and is read later, makes a copy of it: then it is looked for."""
    component = ValidationComponent("eu", TOPOLOGY)
    state = judged("v", "m", good=True, expert=True)._replace(solved_stamp=7)
    assert ended(state)

    def read(topic: str, partition: int, stamp: int) -> None:
        list(
            component.react(
                fact_of(Barrier(writer_id="w"), stamp=stamp), Where(topic, partition, 0)
            )
        )

    assert not component.folds.may_leave(state)
    read("eu.1.tasks", 0, 9)
    read("eu.1.validations", 1, 9)
    read("eu.1.tasks", 1, 6)
    assert not component.folds.may_leave(state)
    read("eu.1.tasks", 1, 7)
    assert component.folds.may_leave(state)


def test_peer_review_that_no_expert_has_looked_at_stays() -> None:
    assert not ended(judged("v", "m", good=True, expert=False))
    assert ended(judged("v", "m", good=True, expert=False)._replace(kind="automatic"))
    assert not ended(judged("v", "m", good=True, expert=True)._replace(status="pending"))


def test_confirmed_case_stays_while_its_solution_is_not_judged() -> None:
    """Who distributes rewards and begins then must know it: the reward that comes is barred."""
    component = ValidationComponent("eu", TOPOLOGY)
    decided = judged("eu/v", "m", good=True, expert=True)
    case = FraudState(
        key="eu/case", epoch=1, version=2, stamp=1, fold_version=1, origin="eu.1", partition=0,
        seq=1, status="confirmed", home="eu", rule="copied-solution", suspects=("m",),
        task_id="eu/t", validation_id="eu/v", severity_ppm=1, penalty_micro=1, decided_by="judge",
        evidence=(), suspected_at=NOW, decided_at=NOW,
    )  # fmt: skip
    waits = decided._replace(status="pending")
    component.changed(None, waits)
    assert not component.folds.may_leave(case)
    component.changed(waits, decided)
    assert component.folds.may_leave(case)
