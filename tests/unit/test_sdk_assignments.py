"""Which tasks a miner holds, by any order of restarts; and what an event makes of a task."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from everlode.events import tasks as t
from everlode.events.base import Envelope, Event, Fact
from everlode.events.catalogue import EVENTS
from everlode.sdk.assignments import Assignments
from everlode.sdk.watch import LAST, status_after

AT = datetime(2026, 1, 1, tzinfo=UTC)
P0, P1 = ("eu.1.tasks", 0), ("eu.1.tasks", 1)


def fact(key: str, version: int, data: Event) -> Fact:
    return Fact(
        Envelope(
            event_id=f"{key}/{version}", aggregate_id=key, version=version, origin="eu.1",
            scope="task-manager/eu", epoch=1, seq=version, stamp=version,
            occurred_at=AT + timedelta(seconds=version), correlation_id=key,
        ),
        data,
    )  # fmt: skip


def assigned(miner: str = "me", attempt: int = 1) -> t.TaskAssigned:
    return t.TaskAssigned(
        attempt=attempt, miner_id=miner, manager_node="n", lease_until=AT, base_reward_micro=1,
        checkpoint_uri="s3://before",
    )  # fmt: skip


def progressed(ppm: int, uri: str | None = None) -> t.TaskProgressed:
    return t.TaskProgressed(
        attempt=1, miner_id="me", progress_ppm=ppm, checkpoint_uri=uri, lease_until=AT
    )


MIGRATED = t.TaskMigrated(attempt=2, miner_id="me", from_node="n", to_node="o", lease_until=AT)
FAILED = t.TaskAttemptFailed(attempt=1, miner_id="me", reason="r", final=False)
CANCELLED = t.TaskCancelled(reason="r", miner_id="me")
EXPIRED = t.TaskLeaseExpired(attempt=1, miner_id="me", final=True)


def test_what_is_assigned_to_the_miner_is_held_with_what_it_reported() -> None:
    mine = Assignments("me")
    mine.observe(P0, 10, fact("a", 2, assigned()))
    mine.observe(P1, 20, fact("b", 2, assigned("other")))
    assert mine.held["a"].checkpoint_uri == "s3://before"
    mine.observe(P0, 11, fact("a", 3, progressed(5, "s3://c")))
    mine.observe(P0, 12, fact("a", 4, MIGRATED))
    mine.observe(P0, 12, fact("a", 3, progressed(7)))  # again, after a restart of the reader
    held = mine.held["a"]
    assert (held.offset, held.attempt, held.progress_ppm) == (10, 2, 5)
    assert held.checkpoint_uri == "s3://c"
    assert mine.held.keys() == {"a"}


@pytest.mark.parametrize("end", [FAILED, CANCELLED, EXPIRED])
def test_what_is_over_is_held_again_only_by_a_later_assignment(end: Event) -> None:
    mine = Assignments("me")
    mine.observe(P0, 10, fact("a", 2, assigned()))
    mine.observe(P0, 11, fact("a", 3, end))
    assert not mine.held
    mine.observe(P0, 12, fact("a", 4, assigned(attempt=2)))
    assert mine.held["a"].attempt == 2
    assert mine.solved == 0


def test_position_is_never_beyond_what_is_held() -> None:
    mine = Assignments("me")
    for offset in range(5):
        mine.passed(P0, offset)
    mine.observe(P1, 3, fact("a", 2, assigned()))
    mine.observe(P1, 4, fact("b", 2, assigned()))
    for offset in range(5, 50):
        mine.passed(P1, offset)
    assert mine.position() == {P0: 5, P1: 3}
    mine.observe(P1, 50, fact("a", 3, EXPIRED))
    assert mine.position() == {P0: 5, P1: 4}
    mine.observe(P1, 51, fact("b", 3, EXPIRED))
    assert mine.position() == {P0: 5, P1: 52}


def test_report_without_its_assignment_asks_for_a_look_further_back() -> None:
    mine = Assignments("me")
    mine.observe(P0, 90, fact("a", 5, progressed(5)))
    assert mine.lacking == {"a": P0}
    mine.observe(P0, 7, fact("a", 2, assigned()))  # found further back
    assert not mine.lacking
    assert mine.held["a"].offset == 7
    assert mine.position() == {P0: 7}


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
