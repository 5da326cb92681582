"""A task that has ended and left its primary's memory is deleted once, and nothing breaks by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from everlode.errors import Refusal
from everlode.events import commands as c
from everlode.events.base import Command
from everlode.snapshots.archive import archive_key
from everlode.topics.names import archive_topic
from tests.support.world.region import Region, until

pytestmark = pytest.mark.timeout(200)
TASK = "eu/t1"


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Region]:
    with Region(tmp_path) as made:
        yield made


def refused(region: Region, command: Command) -> str:
    """The code with which a command to the task is refused."""
    with region.client("c2") as client, pytest.raises(Refusal) as caught:
        client.call(TASK, command)
    return caught.value.code


def test_deletion_after_archiving_is_final_at_once_and_for_a_successor(region: Region) -> None:
    first = region.leader("task-manager", "tasks", "eu-tm-1")
    with region.client("c1") as client:
        client.submit_task("t1", "inference", "s3://x", "0" * 64, 1)
        client.call(TASK, c.CancelTask(reason="r"))
        name, topic = archive_key("tasks", TASK).encode(), archive_topic("eu.1", "tasks")
        until(lambda: any(r.key == name for r in region.records(topic)), 60, "it has left")
        assert client.call(TASK, c.DeleteTask(reason="once")).outcome == "done"
    again = c.DeleteTask(reason="again")
    assert refused(region, again) == "deleted"
    first.kill()
    region.leader("task-manager", "tasks", "eu-tm-2")
    assert refused(region, again) == "deleted"
    facts = [f for f in region.facts("tasks") if f.envelope.aggregate_id == TASK]
    assert [(type(f.data).__name__, f.envelope.version) for f in facts] == [
        ("TaskSubmitted", 1), ("TaskCancelled", 2), ("TaskDeleted", 3),
    ]  # fmt: skip
