"""A failover by processes that began after retention had removed all that they are to know.

A coordinator, standbys and their views of others, and `scope plan` begin with snapshots alone; and
while PostgreSQL is away, from their start on: what they know does not come from there.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from confluent_kafka import TopicPartition

from everlode.adapters.kafka_admin import admin_client
from everlode.events import commands as c
from everlode.events.base import CommandAnswered, Evidence, Fact
from everlode.events.miners import StakeLocked
from everlode.events.rewards import RewardPaid, RewardReleased
from everlode.events.tasks import TaskAssigned, TaskMigrated
from everlode.events.validations import FraudCleared
from everlode.sdk import MiningClient
from everlode.sdk.reference import solution_hash
from everlode.snapshots.read import read_snapshot
from everlode.state.fraud import solution_case_id
from everlode.state.reward import reward_id
from everlode.state.validation import validation_id
from everlode.topics.names import fact_topic
from everlode.topics.partition import partition_of
from tests.support.world.region import PARTITIONS, Region, until

pytestmark = pytest.mark.timeout(280)
FAST = {
    "EVERLODE_RENEW_MS": "500", "EVERLODE_CONTROL_ELECTION_MS": "1500",
    "EVERLODE_FENCE_AFTER_MS": "4000",
}  # fmt: skip
MINER, TASK = "eu/m1", "eu/t1"
DYING = "tests.support.processes.dying_node"
SEEN = Evidence(topic="", partition=-1, offset=-1, note="seen")


@pytest.fixture
def region(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Region]:
    for name, value in FAST.items():
        monkeypatch.setenv(name, value)
    with Region(tmp_path) as made:
        yield made


def of(region: Region, component: str, key: str) -> list[Fact]:
    """The facts of an aggregate that its log still has."""
    return [f for f in region.facts(component) if f.envelope.aggregate_id == key]


def remove(region: Region, component: str, *keys: str) -> None:
    """Remove, as retention would, all that a snapshot covers; the facts of `keys` are among it."""
    topic = fact_topic("eu.1", component)
    lasts = {partition_of(key, PARTITIONS): 0 for key in keys}
    for key in keys:
        at = partition_of(key, PARTITIONS)
        lasts[at] = max(lasts[at], of(region, component, key)[-1].envelope.seq)

    def covered() -> bool:
        marks = read_snapshot(region.bootstrap, "eu.1", component, PARTITIONS).marks
        return all(at in marks and marks[at].seq >= last for at, last in lasts.items())

    until(covered, 60, f"marks cover {keys}")
    marks = read_snapshot(region.bootstrap, "eu.1", component, PARTITIONS).marks
    gone = [TopicPartition(topic, p, mark.next_offset) for p, mark in marks.items()]
    admin = admin_client(region.bootstrap)  # must live until it has answered
    for future in admin.delete_records(gone).values():
        future.result()
    assert [fact for key in keys for fact in of(region, component, key)] == []


def foreseen(region: Region) -> list[str]:
    """Tasks that `everlode scope plan` would move."""
    words = ["scope", "plan", "task-manager/eu", "--dir", str(region.folder / "stack"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "everlode.cli.main", *words], capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [task for step in json.loads(done.stdout)["steps"] for task, _ in step.get("moves", ())]


def nobody_listens(region: Region) -> bool:
    """True while the region's database, by the endpoints that its processes are given, is away."""
    place = urlsplit(region.endpoints.regions["eu"].postgres_dsn)
    assert place.hostname is not None
    assert place.port is not None
    with socket.socket() as asking:
        return asking.connect_ex((place.hostname, place.port)) != 0


def earns(region: Region, miner: MiningClient, name: str) -> str:
    """A reward for a task of this name, which is calculated, and cannot be paid; its id."""
    task = miner.submit_task(name, "inference", "s3://x", "0" * 64, 1).aggregate_id

    def assigned() -> bool:
        return any(isinstance(f.data, TaskAssigned) for f in of(region, "tasks", task))

    until(assigned, 60, "it is assigned")
    answer = solution_hash(task, MINER)
    miner.submit_solution(task, 1, "s3://y", answer, 4096, work_ms=1000)
    reward = reward_id(task, MINER)
    until(lambda: len(of(region, "rewards", reward)) == 1, 60, "its reward is calculated")
    return reward


class Opened(NamedTuple):
    """A case that an operator has opened."""

    key: str
    command: c.OpenFraudCase
    answer: CommandAnswered


def open_case(region: Region, task: str) -> Opened:
    """An operator suspects the solution; the answer to that."""
    about = validation_id(task, 1)
    key = solution_case_id("copied-solution", about)
    command = c.OpenFraudCase(
        rule="copied-solution", suspects=(MINER,), task_id=task, validation_id=about,
        severity_ppm=1, evidence=(SEEN,), solver_id=MINER,
    )  # fmt: skip
    with region.client("judge") as judge:
        answer = judge.call(key, command, command_id="opened")
    until(lambda: len(of(region, "rewards", reward_id(task, MINER))) == 2, 60, "it is withheld")
    return Opened(key, command, answer)


def types(facts: list[Fact]) -> list[tuple[type, int]]:
    """What happened, each with its version."""
    return [(type(fact.data), fact.envelope.version) for fact in facts]


def goes_on(region: Region, owed: str, withheld: str, case: Opened) -> None:
    """What was owed is paid, once; the case is open until it is cleared: then the other is paid."""
    key, command, answer = case
    until(lambda: of(region, "rewards", owed) != [], 60, "what is owed is paid")
    with region.client("judge") as judge:
        again = judge.call(key, command, command_id="opened")
        assert (again.outcome, again.facts) == ("repeated", answer.facts)
        assert of(region, "rewards", withheld) == [], "the case is known: it waits"
        cleared = c.ResolveFraudCase(
            confirmed=False, decided_by="judge", penalty_micro=0, reason="r", evidence=(SEEN,)
        )
        judge.call(key, cleared)
    until(lambda: len(of(region, "rewards", withheld)) == 2, 60, "it is released, and paid")
    assert types(of(region, "validations", key)) == [(FraudCleared, 2)]
    assert types(of(region, "rewards", withheld)) == [(RewardReleased, 3), (RewardPaid, 4)]
    assert types(of(region, "rewards", owed)) == [(RewardPaid, 2)]


def test_who_begins_behind_retention_and_without_postgresql_knows_all_of_before(
    region: Region,
) -> None:
    region.leader("miner-registry", "miners", "eu-mr-1", DYING, "often")
    firsts = [
        region.leader("task-manager", "tasks", "eu-tm-1", DYING, "often"),
        region.leader("validator", "validations", "eu-val-1", DYING, "often"),
        region.leader("reward-distributor", "rewards", "eu-rd-1", DYING, "unpaying"),
    ]
    with region.client("m1", timeout_s=100) as miner:
        miner.register_miner(["inference"], endpoint="m1", max_concurrent=9)
        miner.deposit_stake(10**9)
        owed, withheld = earns(region, miner, "owed"), earns(region, miner, "withheld")
        case = open_case(region, "eu/withheld")
        miner.submit_task("t1", "inference", "s3://x", "0" * 64, 1)

        def locked() -> bool:
            facts = [f.data for f in of(region, "miners", MINER)]
            return any(isinstance(data, StakeLocked) and data.task_id == TASK for data in facts)

        until(locked, 60, "it is assigned, and its stake is locked")
        remove(region, "tasks", TASK)
        remove(region, "miners", MINER)
        remove(region, "validations", case.key)
        remove(region, "rewards", owed, withheld)

        region.stack.kill("eu/postgres")
        until(lambda: nobody_listens(region), 20, "it is away")
        nexts = [
            region.node("task-manager", "eu-tm-2"),
            region.node("validator", "eu-val-2"),
            region.node("reward-distributor", "eu-rd-2"),
        ]
        region.process("detector", "eu-det-1").ready()
        region.coordinator("eu-co-1").ready()
        for node in nexts:
            node.ready()
        until(lambda: foreseen(region) == [TASK], 60, "the plan has the task")
        for node in firsts:
            node.kill()
        for node in nexts:
            node.leads(2)
        until(lambda: of(region, "tasks", TASK) != [], 90, "the task migrates")
        moved = of(region, "tasks", TASK)[0]
        assert isinstance(moved.data, TaskMigrated)
        assert (moved.data.from_node, moved.data.to_node) == ("eu-tm-1", "eu-tm-2")
        assert (moved.data.miner_id, moved.envelope.version) == (MINER, 3)
        goes_on(region, owed, withheld, case)

        miner.submit_task("t2", "inference", "s3://x", "0" * 64, 1)
        until(lambda: len(of(region, "tasks", "eu/t2")) == 2, 60, "the next one is assigned")
        given = of(region, "tasks", "eu/t2")[1].data
        assert isinstance(given, TaskAssigned)
        assert given.miner_id == MINER
    assert nobody_listens(region)
