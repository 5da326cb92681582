"""Kafka administration: create the catalogue's topics, compare what is there with it.

Invariants: an existing topic is never changed or recreated here (a mirror would skip records of a
recreated topic in silence): a difference is reported. Shell: confluent_kafka's admin client.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from everlode.errors import ConfigError, DeadlineExceeded, Refusal, Unavailable
from everlode.topics import TopicSpec

_REQUEST_S = 15.0
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


def admin_client(bootstrap: str) -> AdminClient:
    """A client that reconnects quickly and logs nothing while a broker starts."""
    return AdminClient(
        {
            "bootstrap.servers": bootstrap,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 500,
            "socket.connection.setup.timeout.ms": 2000,
            "log_level": 0,
        },
    )


def await_brokers(
    bootstrap: str, nodes: int, deadline: float, given_up: Callable[[], bool] = lambda: False
) -> None:
    """Wait until `nodes` brokers have joined. `deadline` by time.monotonic().

    Raises: DeadlineExceeded. Unavailable: `given_up` said so.
    """
    client = admin_client(bootstrap)
    found = 0
    while time.monotonic() < deadline:
        try:
            found = len(client.list_topics(timeout=1.0).brokers)
        except KafkaException:
            found = 0
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
    names = _metadata(admin_client(bootstrap), bootstrap)
    return tuple(sorted({int(m[1]) for m in map(_STATE_TOPIC.match, names) if m}))


def ensure_topics(bootstrap: str, specs: Sequence[TopicSpec]) -> tuple[str, ...]:
    """Create the topics that are missing, then wait until each has a leader. Idempotent.

    Returns the names created, in the order of `specs`.

    Raises: ConfigError: a topic exists with other partitions, replication or settings, or the
    broker refuses one. Unavailable: the cluster does not answer.
    """
    client = admin_client(bootstrap)
    present = _metadata(client, bootstrap)
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
            operation_timeout=_REQUEST_S,
            request_timeout=_REQUEST_S,
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


def delete_topics(bootstrap: str, names: Sequence[str]) -> None:
    """Destroy topics and their data, for good; those that do not exist are passed over.

    Never for a mirrored topic: made again under its name, its mirrors skip records in silence.

    Raises: Unavailable: the cluster does not answer; DeadlineExceeded: they are still there.
    """
    if not names:
        return
    client = admin_client(bootstrap)
    deleted = client.delete_topics(
        list(names), operation_timeout=_REQUEST_S, request_timeout=_REQUEST_S
    )
    for name, future in deleted.items():
        try:
            future.result()
        except KafkaException as exc:
            if exc.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise Unavailable(f"topic {name} is not deleted: {exc.args[0].str()}") from exc
    deadline = time.monotonic() + _REQUEST_S
    while set(names) & set(_metadata(client, bootstrap)):
        if time.monotonic() > deadline:
            raise DeadlineExceeded(f"{bootstrap}: topics are still there after their deletion")
        time.sleep(0.05)


def diff_topics(bootstrap: str, specs: Iterable[TopicSpec]) -> list[Drift]:
    """How the cluster differs from `specs`, by topic and setting. Other topics are ignored.

    Raises: Unavailable: the cluster does not answer.
    """
    client = admin_client(bootstrap)
    present = _metadata(client, bootstrap)
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
            for key, value in sorted(_expected(spec).items())
        ]
        drifts += [Drift(spec.name, s, e, f, spec.cluster) for s, e, f in pairs if e != f]
    return drifts


def _expected(spec: TopicSpec) -> dict[str, str]:
    return spec.configs | {
        "cleanup.policy": spec.cleanup,
        "retention.ms": str(spec.retention_ms),
        "min.insync.replicas": str(spec.min_insync),
    }


def _metadata(client: AdminClient, bootstrap: str) -> dict[str, Any]:
    try:
        return dict(client.list_topics(timeout=_LOOK_S).topics)
    except KafkaException as exc:
        raise _unavailable(bootstrap, exc) from exc


def _configs(client: AdminClient, bootstrap: str, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    try:
        answers = client.describe_configs(resources, request_timeout=_REQUEST_S)
        return {
            resource.name: {key: str(entry.value) for key, entry in future.result().items()}
            for resource, future in answers.items()
        }
    except KafkaException as exc:
        raise _unavailable(bootstrap, exc) from exc


def topic_ids(bootstrap: str, names: Sequence[str]) -> dict[str, str]:
    """The cluster's ids of topics, by name; those that are not there are left out.

    Raises: Unavailable.
    """
    client = admin_client(bootstrap)  # must live until all have answered
    asked = client.describe_topics(TopicCollection(list(names)), request_timeout=_REQUEST_S)
    found = {}
    for name, future in asked.items():
        try:
            found[name] = str(future.result().topic_id)
        except KafkaException as exc:
            if exc.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise _unavailable(bootstrap, exc) from exc
    return found


def _await_leaders(bootstrap: str, specs: Sequence[TopicSpec]) -> None:
    """Until every node of the cluster knows a leader of each partition.

    Asked node by node: a node that has not heard of a new topic yet says that there is none.
    """
    deadline = time.monotonic() + _REQUEST_S
    for server in bootstrap.split(","):
        while True:
            present = _metadata(admin_client(server), server)
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
            raise _unavailable(bootstrap, exc) from exc
        raise Refusal(f"topic {name}: {error.str()}") from exc


def _unavailable(bootstrap: str, exc: KafkaException) -> Unavailable:
    return Unavailable(
        f"Kafka at {bootstrap} does not answer: {exc.args[0].str()}",
        hint="everlode stack status",
    )
