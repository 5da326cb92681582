"""The table of rights on a real broker: each principal tries to read and to write every topic.

What is expected is read off the names of the topics here, not off the ACLs that are made from it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from everlode.access.acls import acls, named
from everlode.access.rights import BY_PRINCIPAL, RIGHTS
from everlode.adapters.kafka_access import identified
from everlode.adapters.kafka_acls import set_acls
from everlode.adapters.kafka_admin import admin_client
from everlode.adapters.kafka_topics import ensure_topics
from everlode.adapters.kafka_users import make_users
from everlode.settings.login import load_login
from everlode.topics import Topology, catalogue
from tests.support.world.guarded import Guarded, being, guarded_broker, login_file

NETWORK = Topology(
    regions=("eu", "us"), partitions=1, control_replication=1, control_min_insync=1
)  # fmt: skip
MIRRORS_OWN = "mm2-offsets.us.internal"
PRINCIPALS = tuple(BY_PRINCIPAL)
WAIT_S = 20.0
Tried = dict[str, bool]
"""Topic → whether the broker let it."""


class Lab(NamedTuple):
    broker: Guarded
    topics: tuple[str, ...]
    logins: dict[str, Path]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The topics of region eu and of the control log, on one broker, with the rights of both."""
    with guarded_broker(tmp_path_factory.mktemp("rights")) as broker, being(broker.own):
        specs = [s for s in catalogue(NETWORK) if s.cluster in ("eu", "control")]
        ensure_topics(broker.bootstrap, specs)
        client = admin_client(broker.bootstrap)  # must live until it has answered
        client.create_topics([NewTopic(MIRRORS_OWN, 1, 1)])[MIRRORS_OWN].result()
        found = {name: secrets.token_urlsafe() for name in PRINCIPALS}
        make_users(broker.bootstrap, found)
        wanted = {*acls(NETWORK, "eu"), *acls(NETWORK, "control")}
        assert set_acls(broker.bootstrap, wanted) == (len(wanted), 0)
        assert set_acls(broker.bootstrap, wanted) == (0, 0)
        ca = broker.authority.certificate
        files = {n: login_file(broker.folder, ca, n, secret) for n, secret in found.items()}
        yield Lab(broker, (*(s.name for s in specs), MIRRORS_OWN), files)


def kind_of(topic: str) -> str:
    """Kind of a topic by its name, for region eu. Every topic has one."""
    first, *more = topic.split(".")
    if first == "control":
        return "control"
    if topic == MIRRORS_OWN:
        return "mirrors"
    if topic == "eu.replies":
        return "replies"
    if first == "dlt":
        return f"letters.{more[0]}"
    if first == "state":
        return "states"
    if first in ("snapshot", "archive"):
        return f"snapshots.{more[-1]}"
    if first == "work":
        return "work"
    if more[0] == "commands":
        return topic.removeprefix("eu.")
    if first == "us":
        return "copies"
    signals = ("heartbeats", "health", "recovery", "receipts", "schemas")
    return more[1] if more[1] in signals else f"facts.{more[1]}"


def written(bootstrap: str, topics: Iterable[str]) -> Tried:
    """One record to each."""
    outcome: dict[str, KafkaError | None] = {}
    producer = Producer({**identified(bootstrap), "message.timeout.ms": int(WAIT_S * 1000)})
    for topic in topics:
        producer.produce(
            topic,
            b"tried",
            b"key",
            on_delivery=lambda e, m: outcome.__setitem__(m.topic() or "", e),
        )
    assert producer.flush(WAIT_S) == 0
    return {topic: let(error) for topic, error in outcome.items()}


def read(bootstrap: str, group: str, topics: Iterable[str]) -> Tried:
    """To the end of each, or to the broker's no.

    A consumer is silent about a topic that it may not even hear of: those are asked for first.
    """
    client = AdminClient(identified(bootstrap))
    asked = client.describe_topics(TopicCollection(list(topics)))
    outcome = {topic: done(partial(future.result, WAIT_S)) for topic, future in asked.items()}
    waiting = {topic for topic, known in outcome.items() if known}
    consumer = Consumer(
        {
            **identified(bootstrap), "group.id": group, "enable.partition.eof": True,
            "enable.auto.commit": False, "auto.offset.reset": "earliest",
        }
    )  # fmt: skip
    deadline = time.monotonic() + WAIT_S
    try:
        consumer.assign([TopicPartition(topic, 0, 0) for topic in waiting])
        while waiting:
            assert time.monotonic() < deadline, f"nothing of {sorted(waiting)}"
            for message in consumer.consume(1000, timeout=0.1):
                error, topic = message.error(), message.topic()
                if error is not None and topic is not None:
                    outcome[topic] = error.code() == KafkaError._PARTITION_EOF or let(error)
                    waiting.discard(topic)
    finally:
        consumer.close()
    return outcome


REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}


def let(error: KafkaError | None) -> bool:
    """Whether it was allowed; any other outcome is an error of the test."""
    assert error is None or error.code() in REFUSED, error
    return error is None


def done(ask: Callable[[], object]) -> bool:
    """Whether it was allowed to; see `let`."""
    try:
        ask()
    except KafkaException as error:
        return let(error.args[0])
    return True


@pytest.mark.parametrize("principal", PRINCIPALS)
def test_a_principal_reads_and_writes_what_the_table_says_and_nothing_else(
    lab: Lab, principal: str
) -> None:
    rights = BY_PRINCIPAL[principal]
    with being(load_login(lab.logins[principal])):
        wrote = written(lab.broker.bootstrap, lab.topics)
        group = named(rights.groups, NETWORK)[0]
        got = read(lab.broker.bootstrap, group, lab.topics)
    assert wrote == {topic: kind_of(topic) in rights.writes for topic in lab.topics}
    assert got == {topic: kind_of(topic) in rights.reads for topic in lab.topics}


@pytest.mark.parametrize("principal", PRINCIPALS)
def test_a_principal_uses_its_own_groups_and_no_others(lab: Lab, principal: str) -> None:
    mine = named(BY_PRINCIPAL[principal].groups, NETWORK)
    groups = {group for rights in RIGHTS for group in named(rights.groups, NETWORK)}
    names = sorted({f"{group}x" for group in groups} | {"strange"})
    with being(load_login(lab.logins[principal])):
        client = AdminClient(identified(lab.broker.bootstrap))
        asked = {
            name: client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name]
            for name in names
        }
        found = {name: done(partial(future.result, WAIT_S)) for name, future in asked.items()}
    assert found == {name: name.startswith(mine) for name in names}


@pytest.mark.parametrize("principal", PRINCIPALS)
def test_a_principal_takes_its_own_writers_over_and_no_others(lab: Lab, principal: str) -> None:
    mine = named(BY_PRINCIPAL[principal].transactions, NETWORK)
    names = sorted({f"{n}eu" for rights in RIGHTS for n in named(rights.transactions, NETWORK)})
    with being(load_login(lab.logins[principal])):
        settings = identified(lab.broker.bootstrap)
        writers = [Producer({**settings, "transactional.id": name}) for name in names]
        with ThreadPoolExecutor(len(names)) as pool:
            found = list(pool.map(lambda w: done(lambda: w.init_transactions(WAIT_S)), writers))
    assert dict(zip(names, found, strict=True)) == {name: name.startswith(mine) for name in names}


def test_only_who_fills_a_generation_makes_topics_and_only_those(lab: Lab) -> None:
    names = ("state.g2.tasks", "eu.1.more", "eu.commands.more")
    found = set[tuple[str, str]]()
    for principal in PRINCIPALS:
        with being(load_login(lab.logins[principal])):
            client = AdminClient(identified(lab.broker.bootstrap))
            for name, future in client.create_topics([NewTopic(n, 1, 1) for n in names]).items():
                if done(partial(future.result, WAIT_S)):
                    found.add((principal, name))
    assert found == {("recovery", "state.g2.tasks")}


def test_a_right_that_is_not_in_the_table_any_more_is_taken_back(lab: Lab) -> None:
    whole = {*acls(NETWORK, "eu"), *acls(NETWORK, "control")}
    less = {acl for acl in whole if acl.principal != "expert"}
    login = load_login(lab.logins["expert"])
    with being(lab.broker.own):
        assert set_acls(lab.broker.bootstrap, less) == (0, len(whole) - len(less))
    try:
        with being(login):
            assert not written(lab.broker.bootstrap, ["eu.commands.validations"])[
                "eu.commands.validations"
            ]
    finally:
        with being(lab.broker.own):
            assert set_acls(lab.broker.bootstrap, whole) == (len(whole) - len(less), 0)
