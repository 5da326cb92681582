"""One region and its processes, started as an operator starts them; what was done with them.

Tests of failover and of operators share it; each starts the processes that it wants.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

from everlode.adapters.kafka_follower import ControlFollower
from everlode.avro.codec import Codec
from everlode.control.fold import ControlState
from everlode.events import commands as c
from everlode.events.base import Fact
from everlode.events.heartbeats import NodeBeat
from everlode.events.recovery import TaskManagerRecoveryEnded
from everlode.events.tasks import TaskAssigned, TaskMigrated, TaskSubmitted
from everlode.sdk import MiningClient
from everlode.stack import NativeStack
from tests.support.facts.one_writer import check_log
from tests.support.facts.whole_topic import records
from tests.support.processes.entries import entries, matching
from tests.support.processes.forked import CLI, Process, started
from tests.support.processes.outputs import fitting, printed_by
from tests.support.world.region import MARKED_S, until

ACKNOWLEDGED = ("done", "repeated")
T = TypeVar("T")
SCOPE = "task-manager/eu"
FAST = {
    "EVERLODE_RENEW_MS": "500",
    "EVERLODE_CONTROL_ELECTION_MS": "1500",
    "EVERLODE_FENCE_AFTER_MS": "4000",
    "EVERLODE_JUDGE_S": "2",
}


class Network:
    """One region and its processes. Stops every process that it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = NativeStack.small(folder / "stack")
        self.processes: dict[str, Process] = {}

    def __enter__(self) -> Self:
        self.endpoints = self.stack.up()
        self.bootstrap = self.endpoints.regions["eu"].kafka_bootstrap
        assert self.endpoints.control_bootstrap is not None
        self.control = ControlFollower(self.endpoints.control_bootstrap).start()
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.processes:  # pytest shows it when the test fails
            log = (self.folder / f"{node}.log").read_text()
            sys.stderr.write(f"--- {node}\n{log[-2000:]}")
        self.control.close()
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
        for process in self.processes.values():
            process.wait(8)
        self.stack.down(at_once=True)

    def start(self, node: str, *words: str, module: str = CLI, die: str = "") -> None:
        """Start a process; with `module` another program with the same arguments, and its fault."""
        env = {"COORDINATOR_STOPS_AT": die, "DYING_NODE_AT": die}
        self.processes[node] = started(
            module, [*words, "--region", "eu", "--node-id", node],
            self.path(node), {**self.env(), **env},
        )  # fmt: skip

    def start_all(self, *, coordinator: str = CLI, die: str = "") -> None:
        """A detector, a registry, three task managers; when all have joined, a coordinator."""
        self.start("eu-det-1", "detector", "run")
        self.start("eu-mr-1", "node", "run", "miner-registry")
        for n in (1, 2, 3):
            self.start(f"eu-tm-{n}", "node", "run", "task-manager", "--priority", str(10 - n))
        self.await_nodes(5)
        self.start("eu-co-1", "coordinator", "run", module=coordinator, die=die)

    def await_nodes(self, count: int) -> None:
        """Wait until so many have joined and each has sent a beat: a coordinator sees them all."""
        joined = self.until(lambda s: len(s.nodes) == count, 120).nodes
        eventually(lambda: joined.keys() <= self._beating())

    def _beating(self) -> set[str]:
        facts = (fact for _, fact in self.log("eu.1.heartbeats"))
        return {f.envelope.aggregate_id for f in facts if isinstance(f.data, NodeBeat)}

    def ask(self, *words: str) -> Any:
        """What a command of the CLI answers."""
        code, out = printed_by(words, self.env())
        assert code == 0, out
        return fitting(words, out)

    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            **FAST,
            "EVERLODE_STACK_DIR": str(self.folder / "stack"),
        }

    def signal(self, node: str, number: signal.Signals) -> None:
        self.processes[node].send_signal(number)
        if number == signal.SIGKILL:
            self.processes[node].wait(10)

    def path(self, node: str) -> Path:
        """Its log."""
        return self.folder / f"{node}.log"

    def reported(self, node: str, kind: str = "", **fields: Any) -> list[dict[str, Any]]:
        """Entries in its log; of `text` a part is enough."""
        return matching(entries(self.path(node)), kind, **fields)

    def log(self, topic: str, partitions: int = 2) -> list[tuple[int, Fact]]:
        """All facts of a topic: (partition, fact)."""
        codec = Codec()
        found = records(self.bootstrap, topic, partitions)
        return [(raw.partition, codec.decode_fact(raw.value)) for raw in found]

    def until(self, what: Callable[[ControlState], bool], seconds: float = 60) -> ControlState:
        return self.control.wait_for(what, seconds)

    def ended(self, node: str, seconds: float = 90) -> TaskManagerRecoveryEnded:
        found = eventually(
            lambda: [
                f.data for _, f in self.log("eu.1.recovery", 1)
                if isinstance(f.data, TaskManagerRecoveryEnded) and f.data.failed_node == node
            ],
            seconds,
        )  # fmt: skip
        assert len(found) == 1
        return found[0]


def eventually(what: Callable[[], T], seconds: float = 60, every: float = 0.3) -> T:
    """The first truthy answer."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(every)
    return found


def submit(client: MiningClient, names: list[str]) -> list[str]:
    """Submit tasks without waiting for each, and wait for all answers; `repeated` is one of a
    command that a primary has carried out and died before it answered.
    """
    digest = hashlib.sha256(b"x").hexdigest()
    command = c.SubmitTask(
        client_id="c", task_type="inference", payload_uri="s3://x", payload_sha256=digest,
        payload_bytes=1, cpu_milli=1, memory_mib=1, gpus=1, gpu_milli=1, base_reward_micro=1000,
        max_attempts=3, deadline_at=client._clock.event_now() + timedelta(days=365),
    )  # fmt: skip
    answers = [client.send(name, command) for name in names]
    assert [r for a in answers if (r := a.result(60)).outcome not in ACKNOWLEDGED] == []
    return names


def managers(network: Network) -> dict[str, str]:
    """Task → node that manages it, by the log."""
    found: dict[str, str] = {}
    for _, fact in network.log("eu.1.tasks"):
        if isinstance(fact.data, TaskAssigned):
            found[fact.envelope.aggregate_id] = fact.data.manager_node
        elif isinstance(fact.data, TaskMigrated):
            found[fact.envelope.aggregate_id] = fact.data.to_node
    return found


def check(network: Network, answered: list[str]) -> None:
    """The checkers, over the whole log of task facts.

    Kafka says that a transaction is committed before each partition has the mark by which readers
    are given it, so what was answered last is waited for.
    """

    def stored() -> set[str]:
        found = (f for _, f in network.log("eu.1.tasks") if isinstance(f.data, TaskSubmitted))
        return {f.envelope.aggregate_id for f in found}

    until(lambda: set(answered) <= stored(), MARKED_S, "lost_write")
    check_log(network.log("eu.1.tasks"))
