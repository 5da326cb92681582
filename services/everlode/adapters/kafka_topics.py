"""Making a cluster's topics as the catalogue describes them; deleting and altering them.

Invariants: an existing topic is never changed or recreated by `ensure_topics` (a mirror would skip
records of a recreated topic in silence): a difference is an error. Shell: confluent_kafka's admin
client.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from everlode.adapters.kafka_admin import (
    REQUEST_S,
    admin_client,
    diff_topics,
    present_topics,
    unavailable,
)
from everlode.errors import ConfigError, DeadlineExceeded, Refusal, Unavailable
from everlode.topics import TopicSpec


def ensure_topics(bootstrap: str, specs: Sequence[TopicSpec]) -> tuple[str, ...]:
    """Create the topics that are missing, then wait until each has a leader. Idempotent.

    Returns the names created, in the order of `specs`.

    Raises: ConfigError: a topic exists with other partitions, replication or settings, or the
    broker refuses one. Unavailable: the cluster does not answer.
    """
    client = admin_client(bootstrap)
    present = present_topics(client, bootstrap)
    missing = [spec for spec in specs if spec.name not in present]
    if missing:
        created = client.create_topics(
            [
                NewTopic(
                    spec.name,
                    num_partitions=spec.partitions,
                    replication_factor=spec.replication,
                    config=spec.configs,
                )
                for spec in missing
            ],
            operation_timeout=REQUEST_S,
            request_timeout=REQUEST_S,
        )
        for name, future in created.items():
            _created(name, future)
    _await_leaders(bootstrap, specs)
    drifts = diff_topics(bootstrap, specs)
    if drifts:
        first = drifts[0]
        raise ConfigError(
            f"topic {first.topic}: {first.setting} is {first.found}, expected {first.expected}"
            f" ({len(drifts)} differences in all)",
            code="topic_drift",
            hint="everlode stack doctor lists them; an existing topic is never changed by itself",
        )
    return tuple(spec.name for spec in missing)


def _await_leaders(bootstrap: str, specs: Sequence[TopicSpec]) -> None:
    """Until every node of the cluster knows a leader of each partition.

    Asked node by node: a node that does not know a new topic yet answers that there is none, and
    one that makes many answers late.
    """
    deadline = time.monotonic() + REQUEST_S
    for server in bootstrap.split(","):
        client = admin_client(server)
        while True:
            try:
                present = present_topics(client, server)
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                continue
            waiting = [s.name for s in specs if not _led(present.get(s.name), s.partitions)]
            if not waiting:
                break
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"{server}: topic {waiting[0]} has no leader in time")
            time.sleep(0.05)


def _led(topic: Any, partitions: int) -> bool:
    """More partitions than expected are drift, not a reason to wait."""
    if topic is None or topic.error is not None or len(topic.partitions) < partitions:
        return False
    return all(p.leader >= 0 for p in topic.partitions.values())


def _created(name: str, future: Future[None]) -> None:
    try:
        future.result()
    except KafkaException as exc:
        error: KafkaError = exc.args[0]
        if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return
        if error.retriable() or error.code() in (
            KafkaError._TIMED_OUT,
            KafkaError._TRANSPORT,
            KafkaError.REQUEST_TIMED_OUT,
        ):
            raise Unavailable(f"topic {name} cannot be created now: {error.str()}") from exc
        raise ConfigError(f"topic {name} is refused: {error.str()}") from exc


def delete_topics(bootstrap: str, names: Sequence[str]) -> None:
    """Destroy topics and their data, for good; those that do not exist are passed over.

    Never for a mirrored topic: made again under its name, its mirrors skip records in silence.

    Raises: Unavailable: the cluster does not answer; DeadlineExceeded: they are still there.
    """
    if not names:
        return
    client = admin_client(bootstrap)
    deleted = client.delete_topics(
        list(names), operation_timeout=REQUEST_S, request_timeout=REQUEST_S
    )
    for name, future in deleted.items():
        try:
            future.result()
        except KafkaException as exc:
            if exc.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise Unavailable(f"topic {name} is not deleted: {exc.args[0].str()}") from exc
    deadline = time.monotonic() + REQUEST_S
    while set(names) & set(present_topics(client, bootstrap)):
        if time.monotonic() > deadline:
            raise DeadlineExceeded(f"{bootstrap}: topics are still there after their deletion")
        time.sleep(0.05)


def alter_topic(bootstrap: str, name: str, settings: dict[str, str]) -> None:
    """Set topic settings. For tests and repairs by an operator.

    Raises: Refusal: the broker refuses. Unavailable.
    """
    client = admin_client(bootstrap)
    resource = ConfigResource(ResourceType.TOPIC, name, set_config=None)
    for key, value in settings.items():
        resource.add_incremental_config(
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        )
    try:
        for future in client.incremental_alter_configs([resource]).values():
            future.result()
    except KafkaException as exc:
        error = exc.args[0]
        if error.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT):
            raise unavailable(bootstrap, exc) from exc
        raise Refusal(f"topic {name}: {error.str()}") from exc
