"""Asking a Kafka cluster about itself: its brokers, its topics, how they differ from the catalogue.

Nothing is changed here. Shell: confluent_kafka's admin client.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)

from everlode.adapters.kafka_access import explained, identified, new_client, refused
from everlode.errors import DeadlineExceeded, EverlodeError, Unavailable
from everlode.topics import TopicSpec

REQUEST_S = 15.0
_LOOK_S = 5.0
"""For questions: a broker that does not answer them for so long is down."""
_MISSING = "(missing)"
_STATE_TOPIC = re.compile(r"state\.g(\d+)\.")


class Drift(NamedTuple):
    """A topic that is not as the catalogue says."""

    topic: str
    setting: str
    """partitions, replication, a topic configuration's name, or `topic` when it does not exist."""
    expected: str
    found: str
    cluster: str = ""
    """Region, or control."""


def admin_client(bootstrap: str, causes: list[KafkaError] | None = None) -> AdminClient:
    """A client that reconnects quickly and logs nothing while a broker starts.

    `causes`: gets what keeps it from connecting, as the client is polled.
    """
    listening: dict[str, Any] = {} if causes is None else {"error_cb": causes.append}
    return new_client(
        AdminClient,
        {
            **identified(bootstrap),
            **listening,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 500,
            "socket.connection.setup.timeout.ms": 2000,
        },
    )


def await_brokers(
    bootstrap: str, nodes: int, deadline: float, given_up: Callable[[], bool] = lambda: False
) -> None:
    """Wait until `nodes` brokers have joined. `deadline` by time.monotonic().

    Raises: DeadlineExceeded. Unavailable: `given_up` returned true. ConfigError: they do not let
    this process in.
    """
    causes: list[KafkaError] = []
    client = admin_client(bootstrap, causes)
    found = 0
    while time.monotonic() < deadline:
        try:
            found = len(client.list_topics(timeout=1.0).brokers)
        except KafkaException:
            found = 0
            client.poll(0)
        for error in causes:
            if told := refused(error, bootstrap, "the first question"):
                raise told
        causes.clear()
        if found >= nodes:
            return
        if given_up():
            raise Unavailable(f"{bootstrap}: no longer waited for")
        time.sleep(0.05)
    raise DeadlineExceeded(f"{bootstrap}: {found} of {nodes} Kafka brokers answered in time")


def state_generations(bootstrap: str) -> tuple[int, ...]:
    """Generations of which the cluster has a state topic, rising.

    Raises: Unavailable: the cluster does not answer.
    """
    names = present_topics(admin_client(bootstrap), bootstrap)
    return tuple(sorted({int(m[1]) for m in map(_STATE_TOPIC.match, names) if m}))


def missing_topics(bootstrap: str, names: Iterable[str]) -> list[str]:
    """Those of these topics that the cluster does not have, by name.

    Raises: Unavailable: the cluster does not answer.
    """
    return sorted(set(names) - present_topics(admin_client(bootstrap), bootstrap).keys())


def diff_topics(bootstrap: str, specs: Iterable[TopicSpec]) -> list[Drift]:
    """How the cluster differs from `specs`, by topic and setting. Other topics are ignored.

    Raises: Unavailable: the cluster does not answer.
    """
    client = admin_client(bootstrap)
    present = present_topics(client, bootstrap)
    known = [spec for spec in specs if spec.name in present]
    configs = _configs(client, bootstrap, [spec.name for spec in known])
    drifts: list[Drift] = []
    for spec in specs:
        found = present.get(spec.name)
        if found is None:
            drifts.append(Drift(spec.name, "topic", "present", _MISSING, spec.cluster))
            continue
        counts = found.partitions
        replicas = {len(p.replicas) for p in counts.values()}
        pairs = [
            ("partitions", str(spec.partitions), str(len(counts))),
            (
                "replication",
                str(spec.replication),
                ",".join(str(n) for n in sorted(replicas)),
            ),
        ]
        settings = configs[spec.name]
        pairs += [
            (key, value, settings.get(key, _MISSING))
            for key, value in sorted(_expected(spec, settings).items())
        ]
        drifts += [Drift(spec.name, s, e, f, spec.cluster) for s, e, f in pairs if e != f]
    return drifts


def _expected(spec: TopicSpec, found: dict[str, str]) -> dict[str, str]:
    older = spec.older
    if older is not None and found.get("cleanup.policy") == older["cleanup.policy"]:
        return older
    return spec.configs | {
        "cleanup.policy": spec.cleanup,
        "retention.ms": str(spec.retention_ms),
        "min.insync.replicas": str(spec.min_insync),
    }


def present_topics(client: AdminClient, bootstrap: str) -> dict[str, Any]:
    try:
        return dict(client.list_topics(timeout=_LOOK_S).topics)
    except KafkaException as exc:
        raise unavailable(bootstrap, exc) from exc


def _configs(client: AdminClient, bootstrap: str, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    try:
        answers = client.describe_configs(resources, request_timeout=REQUEST_S)
        return {
            resource.name: {key: str(entry.value) for key, entry in future.result().items()}
            for resource, future in answers.items()
        }
    except KafkaException as exc:
        raise unavailable(bootstrap, exc) from exc


def retentions(bootstrap: str) -> dict[str, int]:
    """Topic → `retention.ms`, of the topics that lose records by age. Raises: Unavailable."""
    client = admin_client(bootstrap)
    found = _configs(client, bootstrap, sorted(present_topics(client, bootstrap)))
    return {
        name: int(settings["retention.ms"])
        for name, settings in found.items()
        if "delete" in settings["cleanup.policy"] and int(settings["retention.ms"]) > 0
    }


def topic_ids(bootstrap: str, names: Sequence[str]) -> dict[str, str]:
    """The cluster's ids of topics, by name; those that are not there are left out.

    Raises: Unavailable.
    """
    client = admin_client(bootstrap)  # must live until all have answered
    asked = client.describe_topics(TopicCollection(list(names)), request_timeout=REQUEST_S)
    found = {}
    for name, future in asked.items():
        try:
            found[name] = str(future.result().topic_id)
        except KafkaException as exc:
            if exc.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise unavailable(bootstrap, exc) from exc
    return found


def last_written(
    bootstrap: str, partitions: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], int]:
    """When the last record of each partition was written, in ms; absent where there is none.

    Raises: Unavailable.
    """
    client = admin_client(bootstrap)  # must live until all have answered
    last: Any = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
    asked = {TopicPartition(t, p): last for t, p in partitions}
    if not asked:
        return {}
    found = {}
    try:
        for place, future in client.list_offsets(asked, request_timeout=REQUEST_S).items():
            written_ms = future.result().timestamp
            if written_ms >= 0:
                found[place.topic, place.partition] = written_ms
    except KafkaException as exc:
        raise unavailable(bootstrap, exc) from exc
    return found


def unavailable(bootstrap: str, exc: KafkaException) -> EverlodeError:
    told = explained(exc.args[0], bootstrap, "a question about topics")
    return told or Unavailable(
        f"Kafka at {bootstrap} does not answer: {exc.args[0].str()}",
        hint="everlode stack status",
    )
