"""A dead letter is there before its consumer goes on, and names what it is of."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from everlode.adapters.kafka_admin import alter_topic
from everlode.errors import Unavailable
from everlode.topics.names import dead_letter_topic, fact_topic
from tests.projected import Lab, as_other, histories

pytestmark = pytest.mark.timeout(120)
TOPIC = fact_topic("eu.1", "tasks")
FACT = as_other(histories()["tasks"], "x")[0]
KEY = FACT.envelope.aggregate_id


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("letters")) as made:
        yield made


def test_letter_that_cannot_be_written_is_not_passed_over(lab: Lab) -> None:
    topic, junk = dead_letter_topic("projector", TOPIC), random.Random(1).randbytes(5000)
    alter_topic(lab.bootstrap, topic, {"max.message.bytes": "1000"})
    lab.append("tasks", ("junk", junk), lab.fact("tasks", FACT))
    with pytest.raises(Unavailable, match=f"{topic}: 1 dead letters could not") as caught:
        lab.project()
    assert caught.value.code == "dead_letters"
    assert lab.version("tasks", KEY) == 0
    alter_topic(lab.bootstrap, topic, {"max.message.bytes": "1048588"})
    lab.project()
    assert [raw.value for raw in lab.dead("tasks")] == [junk]
    assert lab.version("tasks", KEY) == 1


def test_value_too_large_for_a_letter_is_left_out_and_said(lab: Lab) -> None:
    value = b"x" * 999_000
    lab.append("tasks", ("large", value))
    lab.project()
    letter = lab.dead("tasks")[-1]
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (b"large", None)
    assert headers["dlt-left-out"] == str(len(value)).encode()
    at = int(headers["dlt-offset"])
    (original,) = [r for r in lab.records(TOPIC) if r.offset == at]
    assert original.value == value
