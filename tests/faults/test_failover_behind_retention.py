"""A failover by processes that began after retention had removed all that they are to know.

A coordinator, a standby and its view of the miners, and `scope plan` begin with snapshots alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from everlode.adapters.kafka_admin import admin_client
from everlode.events.base import Fact
from everlode.events.tasks import TaskAssigned, TaskMigrated
from everlode.snapshots.read import read_snapshot
from everlode.topics.names import fact_topic
from everlode.topics.partition import partition_of
from tests.support.world.region import PARTITIONS, Region, until

pytestmark = pytest.mark.timeout(280)
FAST = {
    "EVERLODE_RENEW_MS": "500", "EVERLODE_CONTROL_ELECTION_MS": "1500",
    "EVERLODE_FENCE_AFTER_MS": "4000",
}  # fmt: skip
MINER, TASK = "eu/m1", "eu/t1"


@pytest.fixture
def region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Region]:
    for name, value in FAST.items():
        monkeypatch.setenv(name, value)
    with Region(tmp_path) as made:
        yield made


def of(region: Region, component: str, key: str) -> list[Fact]:
    """The facts of an aggregate that its log still has."""
    return [f for f in region.facts(component) if f.envelope.aggregate_id == key]


def remove(region: Region, component: str, key: str) -> None:
    """Remove, as retention would, all that a snapshot covers; the facts of `key` are among it."""
    partition, topic = partition_of(key, PARTITIONS), fact_topic("eu.1", component)
    last = of(region, component, key)[-1].envelope.seq

    def covered() -> bool:
        marks = read_snapshot(region.bootstrap, "eu.1", component, PARTITIONS).marks
        return partition in marks and marks[partition].seq >= last

    until(covered, 60, f"a mark covers {key}")
    marks = read_snapshot(region.bootstrap, "eu.1", component, PARTITIONS).marks
    gone = [TopicPartition(topic, p, mark.next_offset) for p, mark in marks.items()]
    admin = admin_client(region.bootstrap)  # must live until it has answered
    for future in admin.delete_records(gone).values():
        future.result()
    assert of(region, component, key) == []


def foreseen(region: Region) -> list[str]:
    """Tasks that `everlode scope plan` would move."""
    words = ["scope", "plan", "task-manager/eu", "--dir", str(region.folder / "stack"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "everlode.cli.main", *words], capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [task for step in json.loads(done.stdout)["steps"] for task, _ in step.get("moves", ())]


def test_who_begins_behind_retention_knows_the_tasks_and_miners_of_before(region: Region) -> None:
    region.leader("miner-registry", "miners", "eu-mr-1")
    first = region.leader("task-manager", "tasks", "eu-tm-1")
    with region.client("m1", timeout_s=100) as miner:
        miner.register_miner(["inference"], endpoint="m1", max_concurrent=9)
        miner.deposit_stake(10**9)
        miner.submit_task("t1", "inference", "s3://x", "0" * 64, 1)

        def assigned() -> bool:
            return any(isinstance(f.data, TaskAssigned) for f in of(region, "tasks", TASK))

        until(assigned, 60, "it is assigned")
        until(lambda: len(of(region, "miners", MINER)) == 3, 60, "its stake is locked")
        remove(region, "tasks", TASK)
        remove(region, "miners", MINER)

        second = region.node("task-manager", "eu-tm-2")
        second.ready()
        region.process("detector", "eu-det-1").ready()
        region.coordinator("eu-co-1").ready()
        until(lambda: foreseen(region) == [TASK], 60, "the plan has the task")
        first.kill()
        second.leads(2)
        until(lambda: of(region, "tasks", TASK) != [], 90, "the task migrates")
        moved = of(region, "tasks", TASK)[0]
        assert isinstance(moved.data, TaskMigrated)
        assert (moved.data.from_node, moved.data.to_node) == ("eu-tm-1", "eu-tm-2")
        assert (moved.data.miner_id, moved.envelope.version) == (MINER, 3)

        miner.submit_task("t2", "inference", "s3://x", "0" * 64, 1)
        until(lambda: len(of(region, "tasks", "eu/t2")) == 2, 60, "the next one is assigned")
        given = of(region, "tasks", "eu/t2")[1].data
        assert isinstance(given, TaskAssigned)
        assert given.miner_id == MINER
