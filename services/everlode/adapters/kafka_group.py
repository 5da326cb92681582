"""Consumer groups from outside: who is in one, and where it should start. Shell."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from everlode.errors import Unavailable


def group_members(bootstrap: str, group: str) -> int:
    """Live members of a group; 0 for one that nobody has used. Raises: Unavailable."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        found = admin.describe_consumer_groups([group], request_timeout=15)[group].result()
    except KafkaException as error:
        if error.args[0].name() == "GROUP_ID_NOT_FOUND":
            return 0
        raise Unavailable(f"group {group}: {error.args[0].str()}") from None
    return len(found.members)


def commit_group(bootstrap: str, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Set the offsets of a group without members. Raises: Unavailable."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0})
    try:
        consumer.commit(
            offsets=[TopicPartition(t, p, o) for (t, p), o in offsets.items()],
            asynchronous=False,
        )
    except KafkaException as error:
        raise Unavailable(f"group {group}: {error.args[0].str()}") from None
    finally:
        consumer.close()
