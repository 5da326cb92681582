"""Consumer groups from outside: who is in one, and where it should start. Shell."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from everlode.adapters.kafka_access import explained, identified, new_client
from everlode.errors import Unavailable

Answer = TypeVar("Answer")
_COMING = {
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
    KafkaError._TIMED_OUT,
}
"""A broker that makes the topic of groups' offsets: some of these, or no answer at all."""
COMMIT_S = 15


def when_coordinated(
    ask: Callable[[float], Answer], bootstrap: str, what: str, timeout_s: float
) -> Answer:
    """What `ask` answers, given the seconds that it may take.

    On a broker that has just started nobody coordinates groups yet: asks again until `timeout_s`,
    so it must be a question that may be asked twice. Raises: Unavailable, or what `explained` says.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return ask(max(deadline - time.monotonic(), 1))
        except KafkaException as error:
            cause = error.args[0]
            if cause.code() not in _COMING or time.monotonic() >= deadline:
                told = explained(cause, bootstrap, what)
                raise told or Unavailable(f"{what}: {cause.name()} {cause.str()}") from None
        time.sleep(0.2)


def group_members(bootstrap: str, group: str, timeout_s: float = 90) -> int:
    """Live members of a group; 0 for one that nobody has used. Raises: Unavailable."""
    admin = new_client(AdminClient, identified(bootstrap))

    def ask(within_s: float) -> int:
        within_s = min(within_s, 10)
        asked = admin.describe_consumer_groups([group], request_timeout=within_s)[group]
        try:
            return len(asked.result().members)
        except KafkaException as error:
            if error.args[0].name() == "GROUP_ID_NOT_FOUND":
                return 0
            raise

    return when_coordinated(ask, bootstrap, f"group {group}", timeout_s)


def group_offsets(bootstrap: str, timeout_s: float = 15) -> dict[str, dict[tuple[str, int], int]]:
    """Each group that has committed anything → its next offsets. Raises: Unavailable."""
    admin = new_client(AdminClient, identified(bootstrap))

    def names(within_s: float) -> list[str]:
        groups = admin.list_consumer_groups(request_timeout=within_s).result()
        for unanswered in groups.errors or ():
            raise KafkaException(unanswered)
        return sorted(group.group_id for group in groups.valid)

    def offsets(name: str, within_s: float) -> dict[tuple[str, int], int]:
        asked = [ConsumerGroupTopicPartitions(name)]
        (future,) = admin.list_consumer_group_offsets(asked, request_timeout=within_s).values()
        return {
            (at.topic, at.partition): at.offset
            for at in future.result().topic_partitions
            if at.offset >= 0
        }

    what = f"groups of {bootstrap}"
    found = {
        name: when_coordinated(partial(offsets, name), bootstrap, what, timeout_s)
        for name in when_coordinated(names, bootstrap, what, timeout_s)
    }
    return {name: offsets for name, offsets in found.items() if offsets}


def commit_group(bootstrap: str, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Set the offsets of a group without members. Raises: Unavailable."""
    consumer = new_client(Consumer, {**identified(bootstrap), "group.id": group})
    wanted = [TopicPartition(t, p, o) for (t, p), o in offsets.items()]
    try:
        when_coordinated(
            lambda _: consumer.commit(offsets=wanted, asynchronous=False),
            bootstrap, f"group {group}", COMMIT_S,
        )  # fmt: skip
    finally:
        consumer.close()
