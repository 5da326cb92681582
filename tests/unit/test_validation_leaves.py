"""When a validation may leave its primary's memory."""

from __future__ import annotations

from everlode.events.barriers import Barrier
from everlode.state.ended import ended
from everlode.state.view import Where
from everlode.topics import Topology
from everlode.validations.component import ValidationComponent
from tests.support.facts.judged import judged
from tests.support.facts.state_commands import fact_of

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
