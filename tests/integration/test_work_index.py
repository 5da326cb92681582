"""The index of miners' work against what its new writer knows: what differs is mended, once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from everlode.adapters.kafka import Record
from everlode.events import tasks as t
from everlode.events.base import Event
from everlode.events.snapshots import work_key
from everlode.events.states import TaskState
from everlode.log import work
from everlode.log.facts import LoggedFact
from everlode.log.folds import Folds
from everlode.log.work import WorkIndex
from everlode.settings.endpoints import RegionParts
from everlode.snapshots.work import assigned, record, records
from everlode.topics.partition import partition_of
from tests.support.facts.poison import append, mock_broker
from tests.support.facts.state_commands import NOW, fact_of, submit
from tests.support.world.region import until

PARTITIONS = 2
TOPIC = "work.eu.1"


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with mock_broker() as found:
        yield found


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "LATER_S", 0)


def folded(folds: Folds, key: str, *events: Event, home: str = "eu") -> TaskState:
    for version, data in enumerate(events, 1):
        scope = f"task-manager/{home}"
        fact = fact_of(
            data, key, version, event_id=f"{key}/{version}", version=version, scope=scope
        )
        folds.fold(LoggedFact(fact, 0, version))
    state = folds.get("tasks", key)
    assert isinstance(state, TaskState)
    return state


SUBMITTED = t.TaskSubmitted(**submit().__dict__)
FAILED = t.TaskAttemptFailed(attempt=1, miner_id="eu/a", reason="r", final=False)


def given(miner: str = "eu/a") -> t.TaskAssigned:
    return t.TaskAssigned(
        attempt=1, miner_id=miner, manager_node="n", lease_until=NOW + timedelta(hours=1),
        base_reward_micro=1,
    )  # fmt: skip


def put(broker: str, record: Record) -> None:
    assert isinstance(record.key, bytes)
    append(broker, record.topic, [(record.key, record.value)], record.partition)


def taken(index: WorkIndex) -> list[Record]:
    """What it mends, each transaction committed; ends once it has compared all."""
    found: list[Record] = []

    def compared() -> bool:
        found.extend(index.take(()))
        index.committed()
        return index.level

    until(compared, 20, "all is compared")
    return found


def test_new_writer_mends_what_differs_and_nothing_else(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "LOOK", 3)
    monkeypatch.setattr(work, "MANY", 2)
    folds = Folds(("tasks",), lambda *_: None)
    right = [folded(folds, f"eu/right-{n}", SUBMITTED, given(f"eu/m{n}")) for n in range(7)]
    behind = folded(folds, "eu/behind", SUBMITTED, given())
    lacks = folded(folds, "eu/lacks", SUBMITTED, given("eu/b"))
    over = folded(folds, "eu/over", SUBMITTED, given(), FAILED)
    folded(folds, "us/gone", SUBMITTED, given("us/c"), home="us")
    for state in right:
        (one,) = records(TOPIC, PARTITIONS, [(None, state)])
        put(broker, one)
    early = behind._replace(progress_ppm=behind.progress_ppm + 1)
    stale = [(behind, early), (over, over._replace(status="assigned", miner_id="eu/a"))]
    for one in records(TOPIC, PARTITIONS, stale):
        put(broker, one)
    for key in (b"us/c|us/gone", b"eu/d|eu/never"):
        put(broker, record(TOPIC, 1, key, assigned(lacks)))
    once = record(TOPIC, partition_of("eu/e", PARTITIONS), b"eu/e|eu/once", assigned(lacks))
    put(broker, once)
    put(broker, once._replace(value=None))
    parts = RegionParts("eu", "eu.1", broker, PARTITIONS)
    index = WorkIndex(folds, parts, kept=True)
    index.lead({"eu"})
    found = {r.key: r for r in taken(index)}
    now = {r.key: r for r in records(TOPIC, PARTITIONS, [(None, behind), (None, lacks)])}
    gone = {work_key("eu/a", over.key), b"us/c|us/gone", b"eu/d|eu/never"}
    assert found.keys() == now.keys() | gone
    assert {key: found[key] for key in now} == now
    assert {key: found[key].value for key in gone} == dict.fromkeys(gone)
    assert found[b"us/c|us/gone"].partition == 1, "where it stands"
    for one in found.values():
        put(broker, one)
    index.lead({"eu"})
    assert taken(index) == [], "the next one finds nothing"
    index.close()


def test_what_was_taken_and_not_committed_is_taken_again(broker: str) -> None:
    folds = Folds(("tasks",), lambda *_: None)
    state = folded(folds, "eu/again", SUBMITTED, given())
    append(broker, "work.eu.2", [])
    index = WorkIndex(folds, RegionParts("eu", "eu.2", broker, PARTITIONS), kept=True)
    index.lead({"eu"})
    until(lambda: bool(index.take(())), 20, "it has compared")
    assert [r.key for r in index.take(())] == [b"eu/a|eu/again"]
    over = folded(Folds(("tasks",), lambda *_: None), "eu/again", SUBMITTED, given(), FAILED)
    both = index.take([(state, over)])
    assert [(r.key, r.value is None) for r in both] == [
        (b"eu/a|eu/again", False), (b"eu/a|eu/again", True),
    ], "what the transaction changes comes last"  # fmt: skip
    folded(folds, "eu/again", SUBMITTED, given(), FAILED)
    assert [r.value for r in index.take(())] == [None], "it is mended as it is by now"
    index.committed()
    assert index.take(()) == []
    index.close()


def test_index_of_another_component_is_not_kept(broker: str) -> None:
    parts = RegionParts("eu", "eu.1", broker, PARTITIONS)
    index = WorkIndex(Folds(("miners",), lambda *_: None), parts, kept=False)
    index.lead({"eu"})
    assert index.take([(None, None)]) == []


def test_index_that_cannot_be_read_now_is_read_later_and_work_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work, "ASK_S", 0.1)
    folds = Folds(("tasks",), lambda *_: None)
    state = folded(folds, "eu/on", SUBMITTED, given())
    away = WorkIndex(folds, RegionParts("eu", "eu.1", "127.0.0.1:9", PARTITIONS), kept=True)
    away.lead({"eu"})
    for _ in range(2):
        assert [r.key for r in away.take([(None, state)])] == [b"eu/a|eu/on"]
        away.committed()
    assert not away.level
    away.close()
