"""What does not belong on a fact topic is kept and named; projectors that stall, die, are replaced.

On real parts; no state topic goes back (`state_regression`)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from everlode.adapters.clock import WallClock
from everlode.adapters.kafka import Raw, Record
from everlode.adapters.kafka_writer import Writer
from everlode.agents.projection import Message
from everlode.avro.codec import MARKER, Codec, encode_fact
from everlode.errors import FencedOut, OutcomeUnknown, Unavailable
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Fact, ScopeEpoch
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.health import GapFound
from everlode.events.tasks import TaskDeleted
from everlode.log import learn
from everlode.log.signals import SignalWriter
from everlode.projector.findings import Findings
from everlode.projector.live import Projector
from everlode.projector.standstill import Watch
from everlode.projector.worker import Outside
from everlode.telemetry.entries import Entry, ReadBack
from everlode.topics.names import fact_topic
from tests.support.world.projected import TOPOLOGY, Lab, as_other, histories
from tests.support.world.projecting import envelope, fact, newer
from tests.support.world.region import until

pytestmark = pytest.mark.timeout(180)
HISTORY = histories()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as found:
        yield found


@pytest.fixture
def lab(running: Lab) -> Iterator[Lab]:
    yield running
    running.leave()


def renamed(component: str, case: str) -> list[Fact]:
    return as_other(HISTORY[component], case)


def key_of(facts: list[Fact]) -> str:
    return facts[0].envelope.aggregate_id


@pytest.mark.parametrize("component", FACT_COMPONENTS)
@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("random_bytes", "not_avro"),
        ("truncated", "broken"),
        ("unknown_schema", "unknown_schema"),
        ("null_key", "null_key"),
        ("wrong_key", "wrong_key"),
        ("null_value", "not_avro"),
    ],
)
def test_poison_becomes_a_dead_letter_with_provenance_and_the_stream_goes_on(
    lab: Lab, component: str, case: str, code: str
) -> None:
    facts = renamed(component, case)
    first, second = (lab.fact(component, f) for f in facts[:2])
    key, good = first
    bad: tuple[str | None, bytes | None] = {
        "random_bytes": ("x", random.Random(1).randbytes(200)),
        "truncated": (key, good[:-3]),
        "unknown_schema": (key, good[:2] + b"\x00" * 8 + good[10:]),
        "null_key": (None, good),
        "wrong_key": ("another", good),
        "null_value": (key, None),
    }[case]
    before = len(lab.dead(component))
    lab.append(component, first, bad, second)
    lab.project()
    assert lab.version(component, key) == 2
    dead = lab.dead(component)
    assert len(dead) == before + 1
    letter = dead[-1]
    headers = dict(letter.headers)
    topic = fact_topic("eu.1", component)
    assert headers["dlt-code"] == code.encode()
    assert headers["dlt-topic"] == topic.encode()
    assert headers["dlt-partition"] == b"0"
    assert headers["dlt-consumer"] == b"projector"
    assert (letter.key, letter.value) == (None if bad[0] is None else bad[0].encode(), bad[1])
    at = int(headers["dlt-offset"])
    [original] = [r for r in lab.records(topic) if r.offset == at]
    assert (original.key, original.value) == (
        None if bad[0] is None else bad[0].encode(), bad[1],
    )  # fmt: skip


@pytest.mark.parametrize("component", FACT_COMPONENTS)
def test_fact_on_another_components_topic_is_a_dead_letter(lab: Lab, component: str) -> None:
    other = FACT_COMPONENTS[(FACT_COMPONENTS.index(component) + 1) % len(FACT_COMPONENTS)]
    stray = lab.fact(component, renamed(other, "stray")[0])
    lab.seqs[component, 0] -= 1
    lab.append(component, stray)
    lab.project()
    assert dict(lab.dead(component)[-1].headers)["dlt-code"] == b"wrong_topic"
    assert lab.version(other, stray[0]) == 0
    dead = lab.dead(component)
    lab.project()  # the next one begins after it
    assert lab.dead(component) == dead


@pytest.mark.parametrize("component", FACT_COMPONENTS)
def test_version_gap_stops_the_key_alone_and_is_filled(lab: Lab, component: str) -> None:
    facts, others = renamed(component, "gap"), renamed(component, "besides")
    missing = lab.fact(component, facts[0])
    lab.append(component, lab.fact(component, facts[1]), lab.fact(component, others[0]))
    lab.project()
    gap = next(p for p in lab.problems(component) if p[:2] == ("version_gap", key_of(facts)))
    assert gap[3:] == (1, 2)
    assert lab.version(component, key_of(facts)) == 0
    assert lab.version(component, key_of(others)) == 1
    lab.append(component, missing)
    lab.project()
    assert lab.version(component, key_of(facts)) == 2
    assert lab.query("select count(*) from {g}.parked") == [(0,)]


@pytest.mark.parametrize("component", FACT_COMPONENTS)
def test_seq_gap_is_recorded(lab: Lab, component: str) -> None:
    facts = renamed(component, "seq")
    lab.append(component, lab.fact(component, facts[0], skip=3))
    lab.project()
    seq = lab.seqs[component, 0]
    event_id = facts[0].envelope.event_id
    assert ("seq_gap", "", event_id, seq - 3, seq) in lab.problems(component)
    assert lab.version(component, key_of(facts)) == 1


def test_gap_is_told_on_the_health_topic_once_even_by_one_that_was_killed_telling(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `seq` and in versions; told before PostgreSQL knows it, so that no gap stays untold."""
    signals = SignalWriter(lab.bootstrap, "eu.1", WallClock())
    outside = Outside(problems=Findings("eu.1", signals))
    facts = renamed("tasks", "told")
    lab.project()
    lab.append("tasks", lab.fact("tasks", facts[1], skip=2), lab.fact("tasks", facts[2]))
    raws = lab.records(fact_topic("eu.1", "tasks"))[-2:]
    first = lab.worker(outside=outside)

    class Killed(Exception):
        pass

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(first._db, "apply", killed)
    with pytest.raises(Killed):
        first.apply(raws, "live")
    heir = lab.worker(outside=outside)
    heir.apply(raws, "live")
    heir.apply(raws, "live")
    signals.close()
    codec, seq = Codec(), lab.seqs["tasks", 0] - 1
    told = [codec.decode_fact(raw.value) for raw in lab.records(fact_topic("eu.1", "health"))]
    found = {f.envelope.event_id: f.data for f in told if isinstance(f.data, GapFound)}
    topic = fact_topic("eu.1", "tasks")
    assert sorted(found.values(), key=lambda d: d.model_dump_json()) == [
        GapFound(topic=topic, partition=0, key="", expected=seq - 2, found=seq),
        GapFound(topic=topic, partition=0, key=key_of(facts), expected=1, found=2),
    ]
    assert len(told) == 4  # both of them by both of them


@pytest.mark.parametrize("component", FACT_COMPONENTS)
def test_same_version_with_another_id_is_a_conflict(lab: Lab, component: str) -> None:
    facts = renamed(component, "conflict")
    first = lab.fact(component, facts[0])
    lab.append(component, first, lab.fact(component, facts[0], event_id=f"forged-{component}"))
    lab.project()
    assert ("conflict", first[0], f"forged-{component}", 1, 1) in lab.problems(component)
    assert lab.query(f"select event_id from {{g}}.{component} where key = '{first[0]}'") == [
        (facts[0].envelope.event_id,)
    ]


@pytest.mark.parametrize("component", FACT_COMPONENTS)
def test_lower_epoch_after_the_next_one_opened_is_fenced(lab: Lab, component: str) -> None:
    facts = renamed(component, "fenced")
    scope = f"scope-of-{component}/eu"
    opened = EpochOpened(node_id="n", scopes=(ScopeEpoch(scope=scope, epoch=3),))
    lab.append(
        component,
        lab.fact(component, facts[0], epoch=2, scope=scope),
        lab.mark(component, opened),
        lab.fact(component, facts[1], epoch=2, scope=scope, event_id=f"late-{component}"),
        lab.fact(component, facts[1], epoch=3, scope=scope),
    )
    lab.project()
    assert ("fenced", key_of(facts), f"late-{component}", 3, 2) in lab.problems(component)
    assert lab.version(component, key_of(facts)) == 2


def test_state_topic_holds_what_the_rows_hold(lab: Lab) -> None:
    """The last record of each key on the state topics is the row's state."""
    lab.project()
    codec = Codec()
    for component in FACT_COMPONENTS:
        last = {r.key: r.value for r in lab.published(component)}
        rows = lab.query(f"select key, version, doc from {{g}}.{component}")
        assert len(rows) == len(last) > 0
        for key, version, doc in rows:
            assert last[key.encode()] == bytes(doc)
            assert codec.decode_state(bytes(doc)).version == version


def _one_more(lab: Lab, case: str) -> tuple[list[Fact], list[Raw]]:
    """A task's facts, the first two in the log and folded, and the next two as they were read."""
    facts = renamed("tasks", case)
    lab.append("tasks", *(lab.fact("tasks", f) for f in facts[:2]))
    lab.project()
    lab.append("tasks", *(lab.fact("tasks", f) for f in facts[2:4]))
    return facts, lab.records(fact_topic("eu.1", "tasks"))[-2:]


def test_database_killed_and_back_loses_nothing(lab: Lab) -> None:
    facts, raws = _one_more(lab, "database")
    worker = lab.worker()
    lab.stack.kill("eu/postgres")
    with pytest.raises(Unavailable):
        worker.apply(raws, "live")
    with pytest.raises(Unavailable):
        lab.worker()
    lab.stack.restart("eu/postgres")
    lab.project()
    assert lab.version("tasks", key_of(facts)) == 4


def test_projector_stalled_before_its_rows_changes_nothing_once_replaced(lab: Lab) -> None:
    """state_regression, first place: it was stopped before step 4."""
    facts, raws = _one_more(lab, "before-rows")
    stalled = lab.worker(node_id="old")
    lab.worker(node_id="new").apply(raws, "live")
    published = len(lab.published("tasks"))
    with pytest.raises(FencedOut):
        stalled.apply(raws[:1], "live")
    assert lab.version("tasks", key_of(facts)) == 4
    assert len(lab.published("tasks")) == published


def test_projector_stalled_between_rows_and_states_never_takes_a_state_back(lab: Lab) -> None:
    """state_regression, second place: rows are in, it was stopped before step 5."""
    facts, raws = _one_more(lab, "between")
    stalled = lab.worker(node_id="old")
    kept: list[list[Record]] = []

    class Stopped(Exception):
        pass

    def stop(records: list[Record]) -> None:
        kept.append(records)
        raise Stopped

    writer: Writer = stalled._writer
    stalled._writer = type("Stalled", (), {"put": staticmethod(stop)})()
    with pytest.raises(Stopped):
        stalled.apply(raws[:1], "live")
    assert lab.version("tasks", key_of(facts)) == 3
    successor = lab.worker(node_id="new")
    assert _versions(lab, key_of(facts))[-1] == 3  # published by who took over
    successor.apply(raws[1:], "live")
    stalled._writer = writer
    with pytest.raises(FencedOut):
        writer.put(kept[0])
    versions = _versions(lab, key_of(facts))
    assert versions == sorted(versions)
    assert versions[-1] == 4


def test_record_that_a_broker_does_not_take_fails_the_whole_transaction(lab: Lab) -> None:
    """Nobody is told of each delivery: the commit must fail, and nothing of it be there."""
    topic, name = "takes-little", "who-writes-too-much"
    admin = AdminClient({"bootstrap.servers": lab.bootstrap})
    made = admin.create_topics([NewTopic(topic, 1, 1, config={"max.message.bytes": "1000"})])
    made[topic].result(30)
    small, large = (Record(topic, 0, "k", random.randbytes(size), []) for size in (10, 5000))
    writer = Writer(lab.bootstrap, name)
    writer.open()
    with pytest.raises(OutcomeUnknown):
        writer.put([small, large, small])
    writer.abandon()
    successor = Writer(lab.bootstrap, name)
    successor.open()
    successor.put([small])
    assert [raw.value for raw in lab.records(topic)] == [small.value]
    successor.abandon()


@pytest.mark.parametrize("heir", ["first", "another"])
def test_states_left_unpublished_are_published_once_by_who_takes_over(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, heir: str
) -> None:
    """Killed before step 5, whoever comes next, be it the same one again."""
    facts, raws = _one_more(lab, f"unpublished-{heir}")
    first = lab.worker(node_id="first")
    monkeypatch.setattr(first._writer, "put", _killed)
    with pytest.raises(OutcomeUnknown):
        first.apply(raws, "live")
    assert lab.version("tasks", key_of(facts)) == 4
    successor = lab.worker(node_id=heir)
    assert _versions(lab, key_of(facts))[-1] == 4
    published = len(lab.published("tasks"))
    successor.apply(raws, "live")
    assert len(lab.published("tasks")) == published


def test_state_of_a_fact_that_waited_is_published_by_who_takes_over(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits has an old `seq`, for which the state topics already stand."""
    lab.project()
    facts, topic = renamed("tasks", "waited"), fact_topic("eu.1", "tasks")
    first = lab.worker(node_id="first")
    lab.append("tasks", lab.fact("tasks", facts[1]), lab.mark("tasks", Barrier(writer_id="w")))
    for raw in lab.records(topic)[-2:]:
        first.apply([raw], "live")
    lab.append("tasks", lab.fact("tasks", facts[0]))
    monkeypatch.setattr(first._writer, "put", _killed)
    with pytest.raises(OutcomeUnknown):
        first.apply(lab.records(topic)[-1:], "live")
    assert lab.version("tasks", key_of(facts)) == 2
    lab.worker(node_id="heir")
    assert _versions(lab, key_of(facts)) == [2]


def test_state_of_a_fact_that_waited_is_published_though_its_topic_did_not_move(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its epoch is decided; the batch in which it goes on is of another topic, or of none."""
    lab.project()
    facts, decided = renamed("tasks", "undecided"), {"late/eu": 0}
    outside = Outside(epochs=lambda _: decided)
    first = lab.worker(node_id="first", outside=outside)
    lab.append("tasks", lab.fact("tasks", facts[0], scope="late/eu", epoch=1))
    first.apply(lab.records(fact_topic("eu.1", "tasks"))[-1:], "live")
    first.apply((), "live")  # notes that all is published
    assert lab.version("tasks", key_of(facts)) == 0
    decided["late/eu"] = 1
    monkeypatch.setattr(first._writer, "put", _killed)
    with pytest.raises(OutcomeUnknown):
        first.apply((), "live")
    assert lab.version("tasks", key_of(facts)) == 1
    lab.worker(node_id="heir")
    assert _versions(lab, key_of(facts)) == [1]


def test_deletion_that_was_not_published_is_published_by_who_takes_over(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.project()
    facts = renamed("tasks", "deleted")
    last = facts[-1].envelope
    last = last.model_copy(update={"version": last.version + 1, "event_id": "deletes"})
    facts.append(Fact(last, TaskDeleted(reason="asked for")))
    key = key_of(facts).encode()
    first = lab.worker(node_id="first")
    lab.append("tasks", *(lab.fact("tasks", f) for f in facts))
    raws = lab.records(fact_topic("eu.1", "tasks"))[-len(facts) :]
    first.apply(raws[:-1], "live")
    assert [r.value is None for r in lab.published("tasks") if r.key == key] == [False]
    monkeypatch.setattr(first._writer, "put", _killed)
    with pytest.raises(OutcomeUnknown):
        first.apply(raws[-1:], "live")
    lab.worker(node_id="heir")
    assert [r.value is None for r in lab.published("tasks") if r.key == key] == [False, True]


def test_log_that_retention_has_emptied_holds_nobody_up(lab: Lab) -> None:
    """The position is before its end, and nothing will ever come: a region that is gone."""
    topic = fact_topic("eu.1", "rewards")
    lab.append("rewards", *(lab.fact("rewards", f) for f in renamed("rewards", "gone")))
    admin = AdminClient({"bootstrap.servers": lab.bootstrap})
    at = TopicPartition(topic, 0, OFFSET_END)
    for future in admin.delete_records([at]).values():
        future.result(30)
    assert lab.records(topic) == []
    lab.make(3)
    lab.project()
    assert lab.query("select count(*) from {g}.tasks where doc is not null")[0][0] > 0
    assert lab.query("select count(*) from {g}.rewards") == [(0,)]


def _killed(_: list[Record]) -> None:
    raise OutcomeUnknown("killed")


def _versions(lab: Lab, key: str) -> list[int]:
    codec = Codec()
    found = [r.value for r in lab.published("tasks") if r.key == key.encode()]
    return [codec.decode_state(value).version for value in found if value is not None]


def test_records_that_were_not_handed_out_are_read_back(lab: Lab) -> None:
    """The group's offset ran ahead of PostgreSQL's: what is between is read by `seq`."""
    facts, raws = _one_more(lab, "ahead")
    lab.worker().apply(raws[1:], "live")
    assert lab.version("tasks", key_of(facts)) == 4
    assert not [p for p in lab.problems("tasks") if p[1] == key_of(facts)]


def test_what_nobody_hands_out_is_read_back_by_the_projectors_own_look(lab: Lab) -> None:
    """Taken over, caught up, and from then on without Faust."""
    reported: list[Entry] = []
    projector = Projector(lab.home(), TOPOLOGY)
    held = projector.assignment
    facts = renamed("tasks", "silence")
    lab.append("tasks", *(lab.fact("tasks", f) for f in facts[:2]))
    projector.catch_up({p: held.worker(p) for p in range(TOPOLOGY.partitions)})
    watch = Watch(lab.bootstrap, held, 1000, reported.append)
    try:
        lab.append("tasks", *(lab.fact("tasks", f) for f in facts[2:4]))
        raws = lab.records("eu.1.tasks")[-2:]
        until(lambda: watch.look() is None and bool(reported), 30, "its number is read on")
        assert lab.version("tasks", key_of(facts)) == 4
        (found,) = reported
        assert isinstance(found, ReadBack)
        assert (found.topic, found.partition, found.records) == ("eu.1.tasks", 0, len(raws))
        for _ in range(5):  # what ends a transaction stays behind the position
            assert watch.look() is None
        assert reported == [found]
        held.assign({0})
        held.reconcile(0)
        assert held.apply(0, raws, "live") == len(raws)  # handed out after all: passed over
        assert not [p for p in lab.problems("tasks") if p[1] == key_of(facts)]
    finally:
        for number in held.assign(()):
            held.reconcile(number)
        projector.close()


def test_barriers_alone_move_the_positions(lab: Lab) -> None:
    lab.append("tasks", lab.mark("tasks", Barrier(writer_id="w")))
    lab.project()
    [(seq,)] = lab.query("select seq from {g}.positions where topic = 'eu.1.tasks' and part = 0")
    assert seq == lab.seqs["tasks", 0]


def test_new_generation_from_the_log_equals_the_old_one(lab: Lab) -> None:
    text = "select key, version, event_id, status, doc from {g}.%s order by key"
    before = {c: lab.query(text % c) for c in FACT_COMPONENTS}
    lab.make(2)
    lab.project()
    assert {c: lab.query(text % c) for c in FACT_COMPONENTS} == before


# -- schemas that come late; the log holds what only a newer writer knows from here on -----------


def newer_deposit(lab: Lab, key: str, version: int) -> bytes:
    """The next record of the miners: the deposit of a newer writer, who publishes its schema."""
    lab.seqs["miners", 0] += 1
    mark, published, value = newer(envelope("miners", key, version, lab.seqs["miners", 0]), 77)
    head = envelope("miners", mark, 0, 1)
    lab.put("eu.1.schemas", mark, encode_fact(head, published))
    return value


def test_unknown_schema_is_waited_for_and_quarantined_only_when_it_does_not_come(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn, "SCHEMA_WAIT_S", 2.0)
    lab.project()
    before = len(lab.dead("miners"))
    first = lab.fact("miners", fact("miners", "late", 1, 0))
    value = newer_deposit(lab, "late", 2)
    lab.append("miners", first, ("late", value), ("late", MARKER + b"nobody's" + value[10:]))
    projector = Projector(lab.home("one"), TOPOLOGY)
    projector.assignment.assign({0})
    raws = lab.records(fact_topic("eu.1", "miners"))[-3:]
    projector.apply(0, [Message(*raw[:5], raw.headers) for raw in raws])
    projector.assignment.assign(())
    projector.assignment.reconcile(0)
    projector.close()
    [letter] = lab.dead("miners")[before:]
    assert dict(letter.headers)["dlt-code"] == b"unknown_schema"
    assert lab.version("miners", "late") == 2
    last = [r.value for r in lab.published("miners") if r.key == b"late"][-1]
    assert getattr(Codec().decode_state(last), "stake_free_micro", None) == 77


def test_record_that_waits_is_taken_over_with_the_schema_of_its_writer(lab: Lab) -> None:
    before = len(lab.dead("miners"))
    outside = Outside(learn=learn.learner(lab.bootstrap, TOPOLOGY.origins, "test"))
    topic = fact_topic("eu.1", "miners")
    first = lab.fact("miners", fact("miners", "waits", 1, 0))
    lab.append("miners", first, ("waits", newer_deposit(lab, "waits", 3)))
    missing = lab.fact("miners", fact("miners", "waits", 2, 0))
    lab.worker(node_id="one", outside=outside).apply(lab.records(topic)[-2:], "live")
    assert lab.version("miners", "waits") == 1
    lab.append("miners", missing)
    lab.worker(node_id="two", outside=outside).apply(lab.records(topic)[-1:], "live")
    assert lab.version("miners", "waits") == 3
    assert len(lab.dead("miners")) == before
