"""What does not belong on a topic, for every reader beside the projector. On a mock broker.

Of the projector: test_projection_faults; of the control log: test_control_log; of the processes
themselves: test_poison_processes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing, nullcontext
from typing import Any

import pytest

from everlode.adapters.postgres import Projection
from everlode.avro import schemas
from everlode.avro.codec import Codec, encode_answer, encode_fact, encode_state
from everlode.backup.asked import Source
from everlode.backup.gather import Gatherer
from everlode.errors import ContractError, IntegrityError
from everlode.events.base import CommandAnswered, Evidence, Fact
from everlode.events.catalogue import FACT_COMPONENTS, STATE_COMPONENTS
from everlode.events.schemas import SchemaPublished
from everlode.events.snapshots import SnapshotMark
from everlode.events.states import State
from everlode.events.validations import FraudSuspected
from everlode.log.facts import FactLog
from everlode.log.folds import Folds
from everlode.log.learn import learner
from everlode.sdk import EventConsumer
from everlode.sdk.consumer import Received
from everlode.sdk.link import RegionLink
from everlode.settings.endpoints import RegionParts
from everlode.state.dispatch import FOLD_VERSION, evolve_fact
from everlode.topics import Topology
from everlode.topics.names import reply_topic, state_topic
from everlode.topics.partition import partition_of
from tests.support.facts.poison import BYTES, KEYS, Pair, append, mock_broker, spoil
from tests.support.world.endpoints import one_region
from tests.support.world.projecting import BEGAN, envelope, fact, topic_of

pytestmark = pytest.mark.timeout(60)
DAMAGES = {**BYTES, **KEYS, "wrong_topic": "wrong_topic"}


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with mock_broker() as found:
        yield found


def record(item: Fact) -> Pair:
    return item.envelope.aggregate_id.encode(), encode_fact(*item)


def stray(component: str) -> str:
    """Another component."""
    return FACT_COMPONENTS[(FACT_COMPONENTS.index(component) + 1) % len(FACT_COMPONENTS)]


# -- a component's own facts: whoever leads must have written them all ----------------------------


def history(component: str, damage: str) -> list[Pair]:
    """Two facts, and the damage as the third."""
    good = [fact(component, "a", n, n) for n in (1, 2)]
    third = fact(component, "a", 3, 3)
    match damage:
        case "wrong_topic":
            bad = record(Fact(third.envelope, fact(stray(component), "a", 1, 3).data))
        case "seq_gap":
            bad = record(fact(component, "a", 3, 5))
        case "version_gap":
            bad = record(fact(component, "a", 4, 3))
        case "conflict":
            bad = record(fact(component, "a", 2, 3, event_id="forged"))
        case _:
            bad = spoil(damage, *("a", record(third)[1] or b""))
    return [*map(record, good), bad]


@pytest.mark.parametrize("component", FACT_COMPONENTS)
@pytest.mark.parametrize(
    ("damage", "code"),
    [*dict.fromkeys(DAMAGES, "foreign_record").items()]
    + [(name, name) for name in ("seq_gap", "version_gap", "conflict")],
)
def test_damage_in_its_own_facts_keeps_a_node_from_leading(
    component: str, damage: str, code: str
) -> None:
    """It cannot know what is true: it says where it stopped, and writes nothing."""
    names = ("validations", "fraud") if component == "validations" else (component,)
    folds = Folds(names, lambda *_: None)
    with mock_broker() as broker:
        topic = topic_of(component)
        append(broker, topic, history(component, damage))
        log = FactLog(broker, "eu.1", component, 1, folds.fold, wait_ms=10)
        try:
            with pytest.raises(IntegrityError) as caught:
                log.open({"scope": 1})
        finally:
            log.close()
    assert caught.value.exit_code == 13
    assert caught.value.code == code
    assert "0@2" in caught.value.message
    assert "find out" in caught.value.hint
    assert folds.version(component, "a") == 2


def test_log_whose_beginning_went_by_retention_is_read_from_a_mark_and_else_refused() -> None:
    found: list[int] = []

    def log_of(broker: str) -> FactLog:
        return FactLog(broker, "eu.1", "miners", 1, lambda p: found.append(p.fact.envelope.seq))

    with mock_broker() as broker:
        append(broker, topic_of("miners"), [record(fact("miners", "a", 1, n)) for n in (7, 8)])
        log = log_of(broker)
        with pytest.raises(IntegrityError, match=r"eu\.1\.miners/0: seq 1 to 6 is gone") as caught:
            log.open({"scope": 1})
        log.close()
        assert caught.value.code == "beginning_lost"
        assert "another region's copy" in caught.value.hint
        assert found == []
        log = log_of(broker)
        log.resume({0: SnapshotMark(6, 0, 9, FOLD_VERSION, 0, (), ())})
        log.open({"scope": 1})
        log.close()
    assert found == [7, 8]
    assert log.seqs == [8]
    assert log.clock.last >= 9


# -- state topics: read by backups ----------------------------------------------------------------


class Rows:
    """A projection of which only the positions matter."""

    generation = 1

    def at_one_moment(self, *, held: bool) -> nullcontext[None]:
        assert held
        return nullcontext()

    def query(self, text: str, *_: object) -> list[tuple[Any, ...]]:
        if "positions" in text:
            return [("eu.1.tasks", 0, 9, 100 << 16, 0)]
        return [(0,)] if "count" in text else [(None,)] if "to_regclass" in text else []

    def stream(self, *_: object) -> list[tuple[Any, ...]]:
        return []

    def close(self) -> None:
        pass


class Gathering(Gatherer):
    """Of a region whose database is empty."""

    def _projection(self) -> Projection:
        return Rows()  # type: ignore[return-value]


def state(component: str, version: int = 1) -> State:
    if component == "fraud":
        place = Evidence(topic="eu.1.tasks", partition=0, offset=1, note="")
        data = FraudSuspected(
            rule="copied-solution", suspects=("m",), task_id="t", severity_ppm=1, evidence=(place,)
        )
        item = Fact(envelope("validations", "a", 1, 1), data)
    else:
        item = fact(component, "a", 1, 1)
    made = evolve_fact(None, item, 0)
    assert made is not None
    return made._replace(version=version)


@pytest.mark.parametrize("component", STATE_COMPONENTS)
@pytest.mark.parametrize(
    ("damage", "code"),
    [
        *{d: "foreign_record" for d in (*BYTES, *KEYS, "wrong_topic") if d != "null_value"}.items(),
        ("older_version", "state_regression"),
        ("other_state", "state_conflict"),
    ],
)
def test_damage_in_a_state_topic_is_refused_by_the_backup(
    component: str, damage: str, code: str
) -> None:
    topic = state_topic(1, component)
    value = encode_state(state(component, 2))
    if damage == "wrong_topic":
        other = "miners" if component != "miners" else "tasks"
        bad: Pair = (b"a", encode_state(state(other)))
    elif damage == "older_version":
        bad = (b"a", encode_state(state(component, 1)))
    elif damage == "other_state":
        bad = (b"a", encode_state(state(component, 2)._replace(origin="us.1")))
    else:
        bad = spoil(damage, "a", value)
    with mock_broker() as broker:
        for name in STATE_COMPONENTS:
            append(broker, state_topic(1, name), [])
        for name in FACT_COMPONENTS:
            append(broker, topic_of(name), [])
        append(broker, topic, [(b"a", value), (b"a", value), bad])
        source = Source("eu", broker, "", Topology(regions=("eu",)))
        with (
            closing(Gathering(source, 1, Codec())) as gatherer,
            closing(gatherer.partition(0)) as part,
            pytest.raises(IntegrityError) as caught,
        ):
            [part.slice(number) for number in range(part.slices.count)]
    assert caught.value.code == code
    assert f"{topic}/0" in caught.value.message
    if code == "foreign_record":
        assert "@2" in caught.value.message
    assert "everlode recover" in caught.value.hint


# -- signals, answers, and users' own programs ----------------------------------------------------


def published(document: str) -> Fact:
    mark = schemas.fingerprint("TaskSubmitted").hex()
    data = SchemaPublished(fingerprint=mark, schema_name="everlode.X", document=document)
    return Fact(envelope("tasks", mark, 0, 1), data)


@pytest.mark.parametrize("damage", [*BYTES, *KEYS, "not_a_schema", "not_json"])
def test_damage_on_a_schemas_topic_teaches_nothing_and_hides_nothing(damage: str) -> None:
    schema = json.loads(json.dumps(schemas.raw("TaskSubmitted")))
    schema["fields"].append({"name": "later", "type": "string", "default": ""})
    good = published(json.dumps(schema))
    mark = schemas.fingerprint_of(schema)
    if damage in ("not_a_schema", "not_json"):
        text = {"not_a_schema": '{"type": "record"}', "not_json": "{"}[damage]
        bad = record(published(text))
    else:
        key, value = record(published(json.dumps(schemas.raw("TaskSubmitted"))))
        bad = spoil(damage, (key or b"").decode(), value or b"")
    codec = Codec()
    with mock_broker() as broker:
        append(broker, "eu.1.schemas", [bad, record(good)])
        assert learner(broker, ("eu.1",), "test")(codec, mark)
    assert codec.knows(mark)


def test_damage_among_the_answers_is_passed_over_and_the_answer_comes(broker: str) -> None:
    given: list[str] = []
    came = threading.Event()

    def answered(_: str, answer: CommandAnswered) -> None:
        given.append(answer.command_id)
        came.set()

    append(broker, reply_topic("eu"), [])
    link = RegionLink(RegionParts("eu", "eu.1", broker, 4), "me", answered)
    try:
        assert link.ready(20)
        answer = CommandAnswered(
            command_id="c", command_type="StartTask", aggregate_id="a", reply_to="me", region="eu",
            node_id="n", outcome="done", code="", message="", hint="", facts=(), level=1,
            answered_at=BEGAN,
        )  # fmt: skip
        good = encode_answer(answer)
        bad = [spoil(damage, "me", good) for damage in (*BYTES, *KEYS)]
        bad.append((b"me", record(fact("tasks", "a", 1, 1))[1]))
        append(broker, reply_topic("eu"), [*bad, (b"me", good)], partition_of("me", 4))
        assert came.wait(20)
    finally:
        link.close()
    assert given == ["c"]


@pytest.mark.parametrize("component", FACT_COMPONENTS)
def test_consumer_is_told_of_what_does_not_belong_and_goes_on(component: str) -> None:
    told: list[tuple[int, str]] = []
    topic = topic_of(component)
    with mock_broker() as broker:
        good = [record(fact(component, "a", n, n)) for n in (1, 2)]
        bad = [spoil(damage, "a", good[0][1] or b"") for damage in (*BYTES, *KEYS)]
        bad.append(record(fact(stray(component), "a", 1, 1)))
        append(broker, topic, [good[0], *bad, good[1]])
        stack = one_region(broker, 1)
        consumer = EventConsumer(
            stack, "eu", [component], damaged=lambda raw, e: told.append((raw.offset, e.code))
        )
        found: list[Received] = []
        while len(found) < 2:
            found += consumer.batch()
        strict = EventConsumer(stack, "eu", [component])
        with pytest.raises(ContractError):
            _ = list(strict)
        consumer.close()
        strict.close()
    assert [r.fact.envelope.version for r in found] == [1, 2]
    codes = [*BYTES.values(), *KEYS.values(), "wrong_topic"]
    assert told == [(1 + n, code) for n, code in enumerate(codes)]
