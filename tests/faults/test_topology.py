"""A running network follows a topology file: it grows, it shrinks, a killed apply is gone on with.

One stack for the file, on real parts and processes; each test leaves it running for the next one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from everlode.adapters.kafka_follower import ControlFollower
from everlode.avro.codec import Codec
from everlode.control.fold import ControlState
from everlode.events import commands as c
from everlode.events.recovery import TaskManagerRecoveryEnded
from everlode.events.tasks import TaskAssigned, TaskMigrated
from everlode.sdk import MiningClient
from everlode.settings.endpoints import Endpoints
from everlode.stack.native.detach import stop_detached
from everlode.stack.native.lock import holder, read_record
from tests.support.facts.whole_topic import records
from tests.support.processes.outputs import fitting
from tests.support.world.region import until

pytestmark = pytest.mark.timeout(280)
FILE: dict[str, Any] = {
    "regions": ["eu"],
    "control_replication": 1,
    "control_min_insync": 1,
    "clusters": {
        "eu": {
            "task-manager": {"nodes": 2, "specialties": {"1": ["training"]}},
            "miner-registry": {"nodes": 1},
            "detector": {"nodes": 1},
            "coordinator": {"nodes": 1},
        }
    },
    "policies": {
        "failover": {"renew_ms": 500, "control_election_ms": 1500, "fence_after_ms": 4000},
    },
}
SCOPE = "task-manager/eu"


class Followed:
    """A detached stack, and the command `everlode topology` on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "stack"
        self.file = folder / "network.yaml"
        self.data = json.loads(json.dumps(FILE))
        self.write()

    def up(self) -> None:
        words = ("stack", "up", "--topology", str(self.file), "--s3", "none")
        assert self.ask(*words)["topology"]["regions"] == ["eu"]
        self.endpoints = Endpoints.load(self.folder)
        self.control = ControlFollower(self.endpoints.control()).start()
        self.until(lambda s: s.epoch(SCOPE) == 1 and s.epoch("miner-registry/eu") == 1)

    def write(self, **fields: Any) -> None:
        """The file, with other fields for once: YAML is a superset of JSON."""
        self.file.write_text(json.dumps({**self.data, **fields}))

    def nodes(self, kind: str, nodes: Any) -> None:
        """Numbers, or a count; who leaves takes its specialties with it."""
        cluster = self.data["clusters"]["eu"][kind]
        cluster["nodes"] = nodes
        if isinstance(nodes, list) and (special := cluster.pop("specialties", {})):
            cluster["specialties"] = {n: s for n, s in special.items() if int(n) in nodes}
        self.write()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=200, check=False
        )

    def command(self, *words: str) -> list[str]:
        where = ["--dir", str(self.folder), "--json"]
        return [sys.executable, "-m", "everlode.cli.main", *words, *where]

    def ask(self, *words: str) -> Any:
        done = self.run(*words)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return fitting(words, done.stdout)

    def plan(self) -> list[str]:
        return rows(self.ask("topology", "plan", str(self.file))["steps"])

    def apply(self) -> list[str]:
        return rows(self.ask("topology", "apply", str(self.file), "--yes")["done"])

    def killed_apply(self, when: Callable[[str], bool]) -> None:
        """An apply that is killed once what it has reported is so."""
        command = self.command("topology", "apply", str(self.file), "--yes")
        log = self.folder / "killed.log"
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            until(lambda: when(log.read_text()) or process.poll() is not None, 120, "in its midst")
            assert process.poll() is None, f"vacuous: it had ended\n{log.read_text()}"
        finally:
            process.kill()
            process.wait(10)

    def pids(self) -> dict[str, int]:
        return {p.name: p.pid for p in read_record(self.folder) if p.alive}

    def nodes_there(self) -> set[str]:
        return {name for name in self.pids() if name.startswith("eu/tm")}

    def until(self, what: Callable[[ControlState], bool]) -> ControlState:
        return self.control.wait_for(what, 60)

    def facts(self, topic: str, partitions: int) -> list[Any]:
        codec = Codec()
        place = self.endpoints.regions["eu"].kafka_bootstrap
        return [codec.decode_fact(raw.value) for raw in records(place, topic, partitions)]

    def managers(self) -> dict[str, str]:
        """Task → node that manages it, by the log."""
        found: dict[str, str] = {}
        for envelope, data in self.facts("eu.1.tasks", 2):
            if isinstance(data, TaskAssigned):
                found[envelope.aggregate_id] = data.manager_node
            elif isinstance(data, TaskMigrated):
                found[envelope.aggregate_id] = data.to_node
        return found

    def handled(self, node: str) -> list[TaskManagerRecoveryEnded]:
        return [
            f.data for f in self.facts("eu.1.recovery", 1)
            if isinstance(f.data, TaskManagerRecoveryEnded) and f.data.failed_node == node
        ]  # fmt: skip


def rows(steps: list[dict[str, str]]) -> list[str]:
    return [f"{s['step']} {s.get('process') or s['scope']}" for s in steps]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    found = Followed(tmp_path_factory.mktemp("topology"))
    try:
        found.up()
        yield found
        found.control.close()
    finally:
        stop_detached(found.folder, 60.0)


def test_stack_from_a_file_runs_what_it_says_and_shows_a_file_that_is_equal(
    followed: Followed,
) -> None:
    assert followed.plan() == []
    assert set(followed.pids()) - {"guard"} == {
        "control/1", "eu/kafka", "eu/postgres", "eu/tm-1", "eu/tm-2", "eu/mr-1", "eu/det-1",
        "eu/co-1",
    }  # fmt: skip
    shown = followed.ask("topology", "show")
    assert shown["notes"] == []
    assert shown["topology"] == followed.data
    command = [a for a in followed.command("topology", "show") if a != "--json"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    followed.file.write_text(text)
    assert followed.plan() == []
    followed.write()


def test_network_grows_by_a_node_and_applied_again_nothing_happens(followed: Followed) -> None:
    before = followed.pids()
    followed.nodes("task-manager", 3)
    assert followed.plan() == ["start eu/tm-3"]
    refused = followed.run("topology", "apply", str(followed.file))
    assert refused.returncode == 14
    assert "--yes" in refused.stdout
    dry = followed.ask("topology", "apply", str(followed.file), "--dry-run")
    assert rows(dry["steps"]) == ["start eu/tm-3"]
    assert followed.pids() == before
    assert followed.apply() == ["start eu/tm-3"]
    found = followed.until(lambda s: "eu-tm-3" in s.nodes)
    assert found.nodes["eu-tm-3"].status == "healthy"
    after = followed.pids()
    assert before.items() <= after.items()
    assert followed.apply() == []
    assert followed.pids() == after


def test_what_contradicts_the_running_stack_is_refused_and_changes_nothing(
    followed: Followed,
) -> None:
    before, kept = followed.pids(), (followed.folder / "stack.json").read_bytes()
    clusters = followed.data["clusters"]["eu"]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"partitions": 5}, "partitions: 5; the stack has 2"),
        ({"regions": ["eu", "us"]}, "regions: eu, us; the stack has eu"),
        ({"regions": ["us"], "clusters": {"us": clusters}}, "regions: us; the stack has eu"),
        ({"clusters": {}}, "the last task-manager would leave"),
        (
            {"clusters": {"eu": {**clusters, "miner-registry": {"nodes": 0}}}},
            "the last miner-registry would leave",
        ),
    ]
    for fields, why in cases:
        followed.write(**fields)
        for verb in (["plan"], ["apply", "--yes"]):
            done = followed.run("topology", verb[0], str(followed.file), *verb[1:])
            assert done.returncode == 14, (fields, done.stdout)
            assert why in json.loads(done.stdout)["error"]["message"]
    followed.write(control_replication=2)
    done = followed.run("topology", "apply", str(followed.file), "--yes")
    assert done.returncode == 2
    assert "network.yaml:1: majority" in json.loads(done.stdout)["error"]["message"]
    followed.write()
    assert (followed.pids(), (followed.folder / "stack.json").read_bytes()) == (before, kept)


def test_changed_policy_reaches_every_reader_though_the_apply_was_killed_half_way(
    followed: Followed,
) -> None:
    before = followed.pids()
    followed.data["policies"]["balancing"] = {"lease_s": 1800}
    followed.write()
    steps = ["replace eu/tm-1", "replace eu/tm-2", "replace eu/tm-3", "replace eu/co-1"]
    assert followed.plan() == steps
    followed.killed_apply(lambda text: "2 of 4: replace eu/tm-2" in text)
    notes = followed.ask("topology", "show")["notes"]
    rest = followed.apply()
    assert rest[-2:] == steps[-2:], (rest, notes)
    assert len(rest) < 4, "vacuous: it began anew"
    assert followed.plan() == []
    after = followed.pids()
    for name in ("eu/tm-1", "eu/tm-2", "eu/tm-3", "eu/co-1"):
        assert psutil.Process(after[name]).environ()["EVERLODE_LEASE_S"] == "1800"
        assert after[name] != before[name]
    for name in ("eu/mr-1", "eu/det-1", "eu/kafka"):
        assert after[name] == before[name]
    followed.until(lambda s: SCOPE in s.scopes and s.scopes[SCOPE].renewed_at >= 0)


def with_tasks(followed: Followed, count: int) -> None:
    """A miner with room, and tasks that are all assigned, half of them of the type that tm-1 is
    special in; none is solved."""
    with MiningClient(followed.endpoints, "eu", "m1", timeout_s=60) as miner:
        miner.register_miner(["inference", "training"], endpoint="m1", max_concurrent=1000)
        miner.deposit_stake(10**12)
    digest = hashlib.sha256(b"x").hexdigest()
    with MiningClient(followed.endpoints, "eu", "c1", timeout_s=60) as client:
        command = c.SubmitTask(
            client_id="c1", task_type="training", payload_uri="s3://x", payload_sha256=digest,
            payload_bytes=1, cpu_milli=1, memory_mib=1, gpus=1, gpu_milli=1,
            base_reward_micro=1000, max_attempts=3,
            deadline_at=client._clock.event_now() + timedelta(days=365),
        )  # fmt: skip
        other = command.model_copy(update={"task_type": "inference"})
        kinds = [command if i < count // 2 else other for i in range(count)]
        sent = [client.send(f"eu/t{i:03}", kind) for i, kind in enumerate(kinds)]
        assert {answer.result(60).outcome for answer in sent} == {"done"}
    until(lambda: len(followed.managers()) == count, 60, "all are assigned")
    nodes = [node for _, node in sorted(followed.managers().items())]
    assert set(nodes[: count // 2]) == {"eu-tm-1"}
    assert set(nodes[count // 2 :]) == {"eu-tm-2", "eu-tm-3"}


def test_drained_node_gives_up_what_it_leads_and_manages_though_the_apply_was_killed(
    followed: Followed,
) -> None:
    with_tasks(followed, 30)
    leader = followed.control.state.scopes[SCOPE].primary
    number = int(leader.rpartition("-")[2])
    managed = [t for t, node in followed.managers().items() if node == leader]
    assert managed, "vacuous: it managed nothing"
    followed.nodes("task-manager", [n for n in (1, 2, 3) if n != number])
    name = f"eu/tm-{number}"
    assert followed.plan() == [f"leave {name}"]
    before = len(followed.handled(leader))
    followed.killed_apply(lambda text: f"leave {name}: waits until" in text)
    assert followed.ask("topology", "show")["notes"] == [f"{name} is leaving"]
    assert followed.apply() == [f"leave {name}"]  # its rest: it is waited for
    state = followed.until(lambda s: s.scopes[SCOPE].primary != leader)
    assert state.nodes[leader].status in ("lost", "fenced")
    assert leader not in followed.managers().values()
    ended = followed.handled(leader)
    assert len(ended) == before + 1
    assert ended[-1].success
    assert name not in followed.pids()
    assert followed.plan() == []
    time.sleep(1)  # nothing heals it
    assert name not in followed.pids()


def test_one_apply_at_a_time_the_other_is_named(followed: Followed) -> None:
    followed.nodes("task-manager", 3)
    with closing((followed.folder / "topology.lock").open("a+")) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        done = followed.run("topology", "apply", str(followed.file), "--yes")
        assert done.returncode == 11
        assert f"process {os.getpid()}" in json.loads(done.stdout)["error"]["message"]
    assert len(followed.apply()) == 1  # the node that had left is back
    followed.until(lambda s: all(s.nodes[f"eu-tm-{n}"].status == "healthy" for n in (1, 2, 3)))


def test_supervisor_killed_in_the_midst_the_apply_goes_on_and_ends(followed: Followed) -> None:
    supervisor = holder(followed.folder)
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: holder(followed.folder) not in (None, supervisor), 60, "another one takes over")
    before = followed.pids()
    followed.nodes("miner-registry", 2)
    assert followed.apply() == ["start eu/mr-2"]
    assert {n: p for n, p in before.items() if n != "guard"}.items() <= followed.pids().items()
    followed.nodes("miner-registry", [2])
    assert followed.apply() == ["leave eu/mr-1"]  # one that was taken over, and led
    followed.until(lambda s: s.scopes["miner-registry/eu"].primary == "eu-mr-2")
    assert followed.plan() == []
