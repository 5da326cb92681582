"""A fact belongs on its component's topic of its own origin, under its aggregate's key."""

from __future__ import annotations

import pytest

from everlode.errors import ContractError
from everlode.topics.place import check_place
from tests.support.world.backed import story

TASK = next(fact for component, fact in story(seed=1, tasks=1) if component == "tasks")


@pytest.mark.parametrize(
    ("topic", "named"),
    [("us.1.tasks", "a fact of eu.1 on us.1.tasks"), ("eu.2.tasks", "on eu.2.tasks"),
     ("eu.1.miners", "does not belong on eu.1.miners")],
)  # fmt: skip
def test_fact_on_another_topic_than_its_own_does_not_belong(topic: str, named: str) -> None:
    key = TASK.envelope.aggregate_id.encode()
    check_place("eu.1.tasks", key, TASK)
    with pytest.raises(ContractError, match=named) as caught:
        check_place(topic, key, TASK)
    assert caught.value.code == "wrong_topic"
