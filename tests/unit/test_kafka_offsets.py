"""Where a partition ends is asked again while its broker is away, and of nobody who cannot know."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from everlode.adapters.kafka_offsets import Offsets
from everlode.errors import Refusal, Unavailable

AT = ("t", 0)


class Client:
    """Answers once with an error, then with 7."""

    def __init__(self, code: int) -> None:
        self.errors = [KafkaException(KafkaError(code))]

    def offsets_for_times(self, asked: list[TopicPartition], timeout: float) -> Any:
        if self.errors:
            raise self.errors.pop()
        return [TopicPartition(one.topic, one.partition, 7) for one in asked]


@pytest.mark.parametrize(
    "code", [KafkaError._DESTROY_BROKER, KafkaError._TRANSPORT, KafkaError._TIMED_OUT]
)
def test_broker_that_is_away_or_has_left_is_followed_by_another_question(code: int) -> None:
    client: Any = Client(code)
    assert Offsets(client, "").ends([AT]) == {AT: 7}


def test_other_error_is_told_at_once() -> None:
    client: Any = Client(KafkaError.UNSUPPORTED_VERSION)
    with pytest.raises(Unavailable, match="offsets of t/0"):
        Offsets(client, "").ends([AT])


def test_what_may_not_be_asked_is_refused_at_once() -> None:
    client: Any = Client(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(Refusal, match=r"offsets of t/0: a client without a login may not"):
        Offsets(client, "").ends([AT])
