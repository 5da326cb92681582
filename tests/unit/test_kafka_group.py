"""A question about groups is asked again while nobody coordinates them, and no longer."""

from __future__ import annotations

from itertools import count

import pytest
from confluent_kafka import KafkaError, KafkaException

from everlode.adapters.kafka_group import when_coordinated
from everlode.errors import Unavailable

LOADING = KafkaError.COORDINATOR_LOAD_IN_PROGRESS


def test_answer_is_that_of_a_coordinator_that_has_loaded() -> None:
    asked = count(1)

    def ask(within_s: float) -> str:
        assert 1 <= within_s <= 5
        if next(asked) < 3:
            raise KafkaException(KafkaError(LOADING))
        return "found"

    assert when_coordinated(ask, "127.0.0.1:9", "groups", 5) == "found"
    assert next(asked) == 4


@pytest.mark.parametrize(
    ("code", "within_s", "times"), [(LOADING, 0, 1), (KafkaError.INVALID_GROUP_ID, 60, 1)]
)
def test_what_no_wait_mends_and_what_waited_too_long_is_named(
    code: int, within_s: float, times: int
) -> None:
    asked = list[float]()

    def ask(within_s: float) -> None:
        asked.append(within_s)
        raise KafkaException(KafkaError(code))

    with pytest.raises(Unavailable, match="^group g: .*" + KafkaError(code).name()):
        when_coordinated(ask, "127.0.0.1:9", "group g", within_s)
    assert len(asked) == times
