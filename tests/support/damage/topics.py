"""Damage to the fact log of tasks, and to their state topic.

Kafka cuts no log at its end and changes no record: such a topic is deleted and made again with what
it would hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from confluent_kafka import OFFSET_END, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from everlode.adapters.kafka import Raw
from everlode.adapters.kafka_topics import alter_topic, delete_topics, ensure_topics
from everlode.avro.codec import encode_fact, encode_state
from everlode.topics import catalogue
from tests.support.damage.world import FACT_LOG, GENERATION, STATE_TOPIC, World
from tests.support.world.backed import TOPOLOGY
from tests.support.world.region import until

LAST = 4
"""So many records are lost at the end of each partition."""


def _rewrite(world: World, topic: str, records: Sequence[Raw]) -> None:
    """The topic is deleted and made again, with these records."""
    bootstrap = world.region.bootstrap
    delete_topics(bootstrap, [topic])
    ensure_topics(bootstrap, [s for s in catalogue(TOPOLOGY, GENERATION) if s.name == topic])
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "log_level": 0})
    for r in records:
        producer.produce(topic, r.value, r.key, r.partition, headers=[*r.headers])
    assert producer.flush(20) == 0


def _empty(world: World, topic: str) -> None:
    """Every record is deleted; the topic stays the one it is."""
    bootstrap = world.region.bootstrap
    policy = "delete" if topic == FACT_LOG else "compact"
    alter_topic(bootstrap, topic, {"cleanup.policy": "delete"})
    until(lambda: _deleted(bootstrap, topic), 20, "the broker knows the setting, and deletes")
    alter_topic(bootstrap, topic, {"cleanup.policy": policy})


def _deleted(bootstrap: str, topic: str) -> bool:
    """False while the broker does not know yet that it may."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    places = [TopicPartition(topic, p, OFFSET_END) for p in range(TOPOLOGY.partitions)]
    try:
        for future in admin.delete_records(places).values():
            future.result(20)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.POLICY_VIOLATION:
            raise
        return False
    return True


def _without_end(records: Sequence[Raw]) -> list[Raw]:
    found: list[Raw] = []
    for partition in range(TOPOLOGY.partitions):
        found += [r for r in records if r.partition == partition][:-LAST]
    return found


def emptied(topic: str) -> Callable[[World], None]:
    return lambda world: _empty(world, topic)


def truncated(topic: str) -> Callable[[World], None]:
    return lambda world: _rewrite(world, topic, _without_end(world.records(topic)))


def older(topic: str) -> Callable[[World], None]:
    return lambda world: _rewrite(world, topic, world.topics_then[topic])


def made_again(topic: str) -> Callable[[World], None]:
    return lambda world: _rewrite(world, topic, [])


def fact_changed(world: World) -> None:
    """The last task fact that is no barrier does not decode any more; it came after the cut."""
    found = world.records(FACT_LOG)
    number = max(n for n, r in enumerate(found) if r.partition == 0 and _aggregate(world, r))
    bad = found[number]
    found[number] = bad._replace(value=(bad.value or b"")[:-3])
    _rewrite(world, FACT_LOG, found)


def _aggregate(world: World, raw: Raw) -> bool:
    return world.region.codec.decode_fact(raw.value).envelope.version > 0


def facts_of_another(world: World) -> None:
    """The same facts, as another region would have written them."""
    found = []
    for raw in world.records(FACT_LOG):
        fact = world.region.codec.decode_fact(raw.value)
        envelope = fact.envelope.model_copy(update={"origin": "us.1"})
        found.append(raw._replace(value=encode_fact(envelope, fact.data)))
    _rewrite(world, FACT_LOG, found)


def state_changed(world: World) -> None:
    """The newest state of a task has another reward; its version is what it was."""
    found = world.records(STATE_TOPIC)
    number = max(n for n, r in enumerate(found) if r.value is not None)
    other = world.other_reward(found[number].value)
    found[number] = found[number]._replace(value=encode_state(other))
    _rewrite(world, STATE_TOPIC, found)


def states_of_another(world: World) -> None:
    """States of tasks that this region knows nothing of."""
    found = []
    for raw in world.records(STATE_TOPIC):
        if raw.value is not None:
            state = world.region.codec.decode_state(raw.value)
            other = state._replace(key=f"us-{state.key}", origin="us.1", home="us")
            found.append(raw._replace(key=other.key.encode(), value=encode_state(other)))
    _rewrite(world, STATE_TOPIC, found)


FACTS = {
    "emptied": emptied(FACT_LOG), "truncated": truncated(FACT_LOG),
    "older copy put back": older(FACT_LOG), "made again": made_again(FACT_LOG),
    "one record changed": fact_changed, "another region's": facts_of_another,
}  # fmt: skip
STATES = {
    "emptied": emptied(STATE_TOPIC), "truncated": truncated(STATE_TOPIC),
    "older copy put back": older(STATE_TOPIC), "made again": made_again(STATE_TOPIC),
    "one record changed": state_changed, "another region's": states_of_another,
}  # fmt: skip
