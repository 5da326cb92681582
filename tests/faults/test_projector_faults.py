"""Late schemas and lost partitions: nothing is lost, and no state topic goes back.

The checker is `state_regression`: in a state topic a key's (epoch, version) never falls, and its
last word is what PostgreSQL holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from io import BytesIO
from typing import Any

import fastavro
import pytest

from everlode.adapters.kafka import Indefinite, Record
from everlode.agents.projection import Message
from everlode.avro import schemas
from everlode.avro.codec import MARKER, encode_fact
from everlode.errors import FencedOut
from everlode.events.base import Envelope, Fact
from everlode.events.schemas import SchemaPublished
from everlode.projector import learn
from everlode.projector.process import Projector
from everlode.stack import NativeStack
from everlode.topics.names import state_topic
from tests.projecting import COMPONENTS, envelope, fact
from tests.projector_lab import Lab, lab

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def world(everlode_small_stack: NativeStack) -> Iterator[Lab]:
    assert everlode_small_stack.endpoints is not None
    with lab(everlode_small_stack.endpoints) as made:
        yield made


def newer(head: Envelope, amount: int) -> tuple[dict[str, Any], bytes]:
    """A StakeDeposited of a writer that knows one field more: its schema, and the record."""
    schema = deepcopy(schemas.raw("StakeDeposited"))
    schema["fields"].append({"name": "note", "type": "string", "default": ""})
    body = BytesIO()
    value = {"envelope": head.model_dump(), "amount_micro": amount, "note": "new"}
    fastavro.schemaless_writer(body, fastavro.parse_schema(deepcopy(schema)), value)
    return schema, MARKER + schemas.fingerprint_of(schema) + body.getvalue()


def publish(world: Lab, schema: dict[str, Any]) -> None:
    """As its writer would, on the origin's schemas topic."""
    mark = schemas.fingerprint_of(schema).hex()
    published = Fact(
        envelope("miners", mark, 0, 1, origin=world.origin),
        SchemaPublished(
            fingerprint=mark, schema_name="everlode.StakeDeposited", document=json.dumps(schema)
        ),
    )
    world.put(f"{world.origin}.schemas", mark.encode(), encode_fact(*published))


def test_unknown_schema_is_waited_for_and_quarantined_only_when_it_does_not_come(
    world: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn, "SCHEMA_WAIT_S", 2.0)
    topic = world.topic("miners")
    schema, value = newer(envelope("miners", "a", 2, 2, origin=world.origin), 77)
    world.say("miners", fact("miners", "a", 1, 1, origin=world.origin))
    world.put(topic, b"a", value)
    world.put(topic, b"a", MARKER + b"nobody's" + value[10:])
    publish(world, schema)
    projector = Projector(world.home("one"), world.topology)
    raws = world.records(topic)
    projector.held.assigned({0})
    projector.apply(0, [Message(*raw) for raw in raws])
    world.workers.append(projector.held.worker(0))
    projector._beats_db.close()
    (letter,) = world.dead("miners")
    assert dict(letter.headers)["dlt-code"] == b"unknown_schema"
    assert world.rows("miners") == {"a": (2, "a/2")}
    state = world.published("miners")["a"]
    assert state is not None
    assert getattr(state, "stake_free_micro", None) == 77


def test_record_that_waits_is_taken_over_with_the_schema_of_its_writer(world: Lab) -> None:
    schema, value = newer(envelope("miners", "a", 3, 3, origin=world.origin), 77)
    publish(world, schema)
    learn_here = learn.learner(world.bootstrap, world.topology.origins, "test")
    world.say("miners", fact("miners", "a", 1, 1, origin=world.origin))
    world.put(world.topic("miners"), b"a", value)
    world.feed(world.worker("one", learn_here))
    world.say("miners", fact("miners", "a", 2, 2, origin=world.origin))
    world.feed(world.worker("two", learn_here))
    assert world.rows("miners") == {"a": (3, "a/3")}
    assert world.dead("miners") == []


def histories(world: Lab, first: int, last: int) -> None:
    """Facts `first` to `last` of one key a topic."""
    for component in COMPONENTS:
        world.say(
            component,
            *(fact(component, "a", n, n, origin=world.origin) for n in range(first, last + 1)),
        )


def test_partition_taken_over_fences_the_first_in_postgres_and_in_kafka(world: Lab) -> None:
    histories(world, 1, 4)
    old = world.worker("old")
    world.feed(old, most=2)
    stale = world.records(state_topic(world.number, "miners"))[0]
    heir = world.worker("heir")
    histories(world, 5, 6)
    raws = world.records(world.topic("miners"), start=4)
    with pytest.raises(FencedOut):
        old.apply(raws, "live")
    assert world.rows("miners") == {"a": (4, "a/4")}
    with pytest.raises(FencedOut):  # had PostgreSQL let it through, Kafka would not
        old._writer.write([Record(stale.topic, 0, "a", stale.value, [])])
    world.feed(heir)
    with pytest.raises(FencedOut):
        old.apply(raws, "live")
    assert world.rows("miners") == {"a": (6, "a/6")}
    assert world.agrees(COMPONENTS)


def test_projector_stopped_between_postgres_and_kafka_and_woken_writes_no_old_state(
    world: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    histories(world, 1, 2)
    old = world.worker("old")
    world.feed(old)
    histories(world, 3, 4)
    honest = old._writer.write
    heirs = []

    def sleep_over_a_takeover(records: list[Record]) -> list[int]:
        heirs.append(world.worker("heir"))
        histories(world, 5, 8)
        world.feed(heirs[0])
        return honest(records)

    monkeypatch.setattr(old._writer, "write", sleep_over_a_takeover)
    with pytest.raises(FencedOut):
        world.feed(old)
    for component in COMPONENTS:
        found = world.published(component)["a"]
        assert found is not None
        assert found.version == 8
    assert world.agrees(COMPONENTS)


@pytest.mark.parametrize("name", ["one", "two"])
def test_states_left_unpublished_are_published_by_the_next_owner(
    world: Lab, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    histories(world, 1, 1)
    old = world.worker("one")
    world.feed(old)
    histories(world, 2, 3)

    def killed(_: list[Record]) -> list[int]:
        raise Indefinite("killed")

    monkeypatch.setattr(old._writer, "write", killed)
    for component in COMPONENTS:
        topic = world.topic(component)
        with pytest.raises(Indefinite):
            old.apply(world.records(topic, start=1), "live")
        assert world.rows(component) == {"a": (3, "a/3")}
        state = world.published(component)["a"]
        assert state is not None
        assert state.version == 1
    heir = world.worker(name)
    assert world.agrees(COMPONENTS)
    before = [len(world.records(state_topic(world.number, c))) for c in COMPONENTS]
    world.feed(heir)
    assert before == [len(world.records(state_topic(world.number, c))) for c in COMPONENTS]
