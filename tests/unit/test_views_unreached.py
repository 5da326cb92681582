"""What a takeover could not save, by id, and what became of it elsewhere."""

from __future__ import annotations

import pytest

from everlode.cli.scope import _takeover
from everlode.events.base import Event, Fact
from everlode.events.tasks import TaskCancelled
from everlode.topics.partition import partition_of
from everlode.views.links import standing
from everlode.views.unreached import listed
from tests.unit.test_control_fences import SCOPE, Fenced
from tests.unit.test_projection_fold import SUBMITTED, Tape


def of(key: str, command: str | None, data: Event, stamp: int) -> Fact:
    fact = Tape("us.1.tasks").put(key, 1, data, scope="task-manager/us").fact
    changes = {"command_id": command, "stamp": stamp, "event_id": f"{key}-{stamp}"}
    return Fact(fact.envelope.model_copy(update=changes), fact.data)


def test_facts_beyond_are_listed_by_stamp_with_what_was_made_of_their_command() -> None:
    beyond = [of("us/b", "c2", SUBMITTED, 20), of("us/a", "c1", SUBMITTED, 10)]
    made = [of("us/b", "c2", SUBMITTED, 90), of("us/c", "c1", TaskCancelled(reason="r"), 95)]
    rows = listed(4, "us.1.tasks", beyond, made, "us")
    assert [(r.event_id, r.command_id, r.carried_out) for r in rows] == [
        ("us/a-10", "c1", None), ("us/b-20", "c2", "us/b-90"),
    ]  # fmt: skip
    assert [(r.event_type, r.partition) for r in rows] == [
        ("TaskSubmitted", partition_of("us/a", 4)), ("TaskSubmitted", partition_of("us/b", 4)),
    ]  # fmt: skip


def test_marks_and_facts_of_other_homes_are_not_listed() -> None:
    tape = Tape("us.1.tasks")
    opened = tape.opened(7, scope="task-manager/us").fact
    other = tape.put("ap/x", 1, SUBMITTED, scope="task-manager/ap").fact
    assert listed(4, "us.1.tasks", [opened, other], [], "us") == []


def test_fenced_region_stands_with_what_it_waits_for_or_who_serves_it() -> None:
    log = Fenced()
    assert standing(log.state, "us") == "lost: not heard by ap, eu"
    log.fence()
    assert standing(log.state, "us") == "fenced: what counts of it waits for ap, eu"
    log.report("eu", 3)
    log.report("ap", 3)
    assert standing(log.state, "us") == "fenced: its scopes wait for a primary"
    log.assign("eu", SCOPE, "eu-tm-1")
    assert standing(log.state, "us") == "fenced: its scopes are served by eu"
    assert standing(log.state, "eu") is None


FOUND = {
    "region": "us", "fenced_at": 7, "lacks": (), "owner": "eu", "accepted": {"us.1.tasks/0": 3},
    "lost": [], "lost_known": True, "returned": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"accepted": None, "lacks": ("ap",)}, "what counts of it waits for ap"),
        ({"lost_known": False}, "is not known: the log of us does not answer"),
        ({}, "nothing was lost"),
        ({"lost": [{"event_id": "e-1", "carried_out": None}]}, "1 facts that do not count"),
    ],
)
def test_empty_list_is_called_nothing_lost_only_once_the_log_was_read(
    changes: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _takeover(FOUND | changes)
    out = capsys.readouterr().out
    assert said in out
    assert ("nothing was lost" in out) is (said == "nothing was lost")
