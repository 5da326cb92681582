"""Consumer groups from outside: who is in one, and where it should start. Shell."""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from everlode.adapters.kafka_access import explained, identified
from everlode.errors import Unavailable

_COMING = {
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
    KafkaError._TIMED_OUT,
}
"""A broker that makes the topic of groups' offsets: some of these, or no answer at all."""


def group_members(bootstrap: str, group: str, timeout_s: float = 90) -> int:
    """Live members of a group; 0 for one that nobody has used.

    On a new broker nobody coordinates groups yet: asks again. Raises: Unavailable.
    """
    admin = AdminClient(identified(bootstrap))
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            found = admin.describe_consumer_groups([group], request_timeout=10)[group].result()
            return len(found.members)
        except KafkaException as error:
            cause = error.args[0]
            if cause.name() == "GROUP_ID_NOT_FOUND":
                return 0
            if cause.code() not in _COMING or time.monotonic() > deadline:
                told = explained(cause, bootstrap, f"group {group}")
                raise told or Unavailable(f"group {group}: {cause.name()} {cause.str()}") from None
        time.sleep(0.2)


def group_offsets(bootstrap: str, timeout_s: float = 15) -> dict[str, dict[tuple[str, int], int]]:
    """Each group that has committed anything → its next offsets. Raises: Unavailable."""
    admin = AdminClient(identified(bootstrap))
    found: dict[str, dict[tuple[str, int], int]] = {}
    try:
        groups = admin.list_consumer_groups(request_timeout=timeout_s).result()
        for unanswered in groups.errors or ():
            raise KafkaException(unanswered)
        for name in sorted(group.group_id for group in groups.valid):
            asked = [ConsumerGroupTopicPartitions(name)]
            (future,) = admin.list_consumer_group_offsets(asked, request_timeout=timeout_s).values()
            found[name] = {
                (at.topic, at.partition): at.offset
                for at in future.result().topic_partitions
                if at.offset >= 0
            }
    except KafkaException as error:
        what = f"groups of {bootstrap}"
        told = explained(error.args[0], bootstrap, what)
        raise told or Unavailable(f"{what}: {error.args[0].str()}") from None
    return {name: offsets for name, offsets in found.items() if offsets}


def commit_group(bootstrap: str, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Set the offsets of a group without members. Raises: Unavailable."""
    consumer = Consumer({**identified(bootstrap), "group.id": group})
    try:
        consumer.commit(
            offsets=[TopicPartition(t, p, o) for (t, p), o in offsets.items()],
            asynchronous=False,
        )
    except KafkaException as error:
        told = explained(error.args[0], bootstrap, f"group {group}")
        raise told or Unavailable(f"group {group}: {error.args[0].str()}") from None
    finally:
        consumer.close()
