"""A dead letter is there before its consumer goes on, and names what it is of."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from everlode.adapters.kafka_topics import alter_topic
from everlode.errors import Unavailable
from everlode.topics.names import dead_letter_topic, fact_topic
from tests.support.world.projected import Lab, as_other, histories

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


def test_key_and_headers_too_large_for_a_letter_are_left_out_and_said(lab: Lab) -> None:
    producer = Producer({"bootstrap.servers": lab.bootstrap, "message.max.bytes": 1_048_588})
    sent: list[tuple[str, dict[str, str | bytes | None]]] = [
        ("k" * 999_000, {}),
        ("odd", {"h": b"h" * 999_000}),
    ]
    for key, headers in sent:
        producer.produce(TOPIC, key=key, value=b"junk", partition=0, headers=headers)
    assert producer.flush(30) == 0
    lab.project()
    first, second = lab.dead("tasks")[-2:]
    assert (first.key, first.value) == (None, b"junk")
    assert dict(first.headers)["dlt-key-left-out"] == b"999000"
    assert (second.key, second.value) == (b"odd", b"junk")
    assert dict(second.headers)["dlt-headers-left-out"] == b"999001"
    assert "h" not in dict(second.headers)
