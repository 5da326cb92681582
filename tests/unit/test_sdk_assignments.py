"""Which tasks a miner has, by what a primary writes of them; what an event makes of a task."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.adapters.kafka import Record
from everlode.avro.codec import Codec
from everlode.avro.snapshots import decode_snapshot
from everlode.events import tasks as t
from everlode.events.base import Event
from everlode.events.catalogue import EVENTS
from everlode.events.snapshots import AssignedTask
from everlode.events.states import TaskState
from everlode.sdk.assignments import Assignments
from everlode.sdk.watch import LAST, status_after
from everlode.snapshots.work import assigned, records
from everlode.state.dispatch import evolve_fact
from everlode.topics.partition import partition_of
from tests.support.facts.state_commands import NOW, fact_of, submit

TOPIC, PARTITIONS = "work.eu.1", 4
MINERS = ("eu/a", "eu/b", "eu/ab")
UNTIL = NOW + timedelta(hours=1)


def happens(state: TaskState | None, data: Event) -> TaskState:
    """The state of task `eu/t` after an event."""
    version = state.version + 1 if state is not None else 1
    fact = fact_of(data, "eu/t", version, version=version, at=NOW + timedelta(minutes=version))
    found = evolve_fact(state, fact, 0)
    assert isinstance(found, TaskState)
    return found


def given_to(state: TaskState, miner: str) -> TaskState:
    data = t.TaskAssigned(
        attempt=state.attempt + 1, miner_id=miner, manager_node="n", lease_until=UNTIL,
        base_reward_micro=1,
    )  # fmt: skip
    return happens(state, data)


SUBMITTED = happens(None, t.TaskSubmitted(**submit().__dict__))
GIVEN = given_to(SUBMITTED, "eu/a")


def progressed(state: TaskState, ppm: int, uri: str | None = None, hours: int = 1) -> TaskState:
    data = t.TaskProgressed(
        attempt=state.attempt, miner_id=state.miner_id or "", progress_ppm=ppm, checkpoint_uri=uri,
        lease_until=NOW + timedelta(hours=hours),
    )  # fmt: skip
    return happens(state, data)


def migrated(state: TaskState) -> TaskState:
    data = t.TaskMigrated(
        attempt=state.attempt + 1, miner_id=state.miner_id or "", from_node="n", to_node="o",
        lease_until=UNTIL,
    )  # fmt: skip
    return happens(state, data)


def failed(state: TaskState) -> TaskState:
    data = t.TaskAttemptFailed(
        attempt=state.attempt, miner_id=state.miner_id or "", reason="r", final=False
    )
    return happens(state, data)


def written(*changes: tuple[TaskState | None, TaskState | None]) -> list[Record]:
    return list(records(TOPIC, PARTITIONS, changes))


def test_what_a_miner_is_given_is_whole_and_in_its_own_partition() -> None:
    (record,) = written((SUBMITTED, GIVEN))
    assert (record.topic, record.key) == (TOPIC, b"eu/a|eu/t")
    assert record.partition == partition_of("eu/a", PARTITIONS)
    expected = AssignedTask(
        "eu/t", "eu/a", 1, 1, "inference", "u", GIVEN.payload_sha256, 1, 0, None,
        NOW + timedelta(minutes=2),
    )  # fmt: skip
    assert decode_snapshot(Codec(), record.value) == expected == assigned(GIVEN)


def test_a_change_that_concerns_no_miner_makes_no_record() -> None:
    assert written((None, SUBMITTED)) == []
    assert written((GIVEN, progressed(GIVEN, 0, hours=2))) == [], "only its lease is longer"
    assert written((failed(GIVEN), given_to(failed(GIVEN), "eu/b")))[0].key == b"eu/b|eu/t"
    assert written((SUBMITTED, None)) == []


def test_what_is_taken_away_and_given_to_another_is_told_to_both() -> None:
    over = given_to(failed(GIVEN), "eu/b")
    assert [(r.key, r.value is None) for r in written((GIVEN, over))] == [
        (b"eu/a|eu/t", True), (b"eu/b|eu/t", False),
    ]  # fmt: skip


STEPS: dict[str, Callable[[TaskState, str], TaskState]] = {
    "given": given_to,
    "progress": lambda state, miner: progressed(state, state.progress_ppm + 1, f"s3://{miner}"),
    "migrate": lambda state, _: migrated(state),
    "fail": lambda state, _: failed(state),
}


@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.sampled_from(MINERS)), max_size=30),
    st.integers(1, 5), st.integers(0, 30),
)  # fmt: skip
def test_each_miner_has_what_the_folds_say_from_any_place_that_it_kept(
    steps: list[tuple[str, str]], size: int, stop: int
) -> None:
    """Transactions of `size` facts; each miner stops after some records, and goes on."""
    state, before, log = SUBMITTED, SUBMITTED, list[Record]()
    for n, (step, miner) in enumerate(steps, 1):
        if (step == "given") == (state.status == "submitted"):
            state = STEPS[step](state, miner)
        if n % size == 0 or n == len(steps):
            log += written((before, state))
            before = state
    for miner in MINERS:
        mine = [r for r in log if r.partition == partition_of(miner, PARTITIONS)]
        first, again = Assignments(miner), Assignments(miner)
        read(first, mine[:stop], 0)
        read(again, mine[first.position :], first.position)
        now = assigned(state)
        expected = {"eu/t": now} if now is not None and now.miner_id == miner else {}
        assert again.held == expected


def read(miner: Assignments, found: list[Record], offset: int) -> None:
    for at, record in enumerate(found, offset):
        assert isinstance(record.key, bytes)
        if not miner.is_mine(record.key):
            miner.passed(at)
            continue
        work = None if record.value is None else decode_snapshot(Codec(), record.value)
        assert work is None or isinstance(work, AssignedTask)
        miner.observe(at, record.key, work)
        miner.observe(at, record.key, None)  # again, after a restart of the reader


def test_position_is_never_beyond_the_newest_record_of_what_is_held() -> None:
    mine, work = Assignments("eu/a"), assigned(GIVEN)
    assert work is not None
    mine.passed(6)
    mine.observe(7, b"eu/a|eu/t", work)
    mine.observe(8, b"eu/a|eu/u", work._replace(task_id="eu/u"))
    mine.passed(90)
    assert mine.position == 7
    mine.observe(91, b"eu/a|eu/t", work._replace(progress_ppm=5))
    assert mine.position == 8
    mine.observe(92, b"eu/a|eu/u", None)
    assert mine.position == 91
    mine.observe(93, b"eu/a|eu/t", None)
    assert mine.position == 94


@pytest.mark.parametrize("name", [n for n, kind in EVENTS.items() if kind.topic == "tasks"])
def test_every_event_of_a_task_says_what_the_task_is_then(name: str) -> None:
    model = EVENTS[name].model
    final = model.model_construct(final=True) if "final" in model.model_fields else None
    status = status_after(model.model_construct(final=False))
    expected = {
        "TaskSubmitted": "submitted", "TaskAssigned": "assigned", "TaskProgressed": "assigned",
        "TaskMigrated": "assigned", "TaskSolved": "solved", "TaskValidated": "validated",
        "TaskRewarded": "rewarded", "TaskCancelled": "cancelled", "TaskDeleted": "deleted",
    }  # fmt: skip
    assert status == expected.get(name, "submitted")
    assert (final is None) == (name in expected)
    if final is not None:
        assert status_after(final) == "failed"
    assert sorted(LAST) == ["cancelled", "deleted", "failed", "rewarded"]
