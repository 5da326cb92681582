"""Child of `benchmarks.failover`: failovers of one build, in an interpreter of that build.

Imports only what any build has. Prints one JSON document: {"idle": cores of the processes at rest,
"rounds": [{"fault", "total_s", "detection_s", "action_s"}]}.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from everlode.avro.codec import Codec
from everlode.events import commands as c
from everlode.events.health import NodeLost
from everlode.sdk import MiningClient
from everlode.stack import NativeStack

SCOPE, HEALTH = "task-manager/eu", "eu.1.health"
NODES, RATE, IDLE_S, STEADY_S, MOST_S = 3, 50, 10, 1.0, 40
ENDPOINTS_HOLD_TOPOLOGY = importlib.util.find_spec("everlode.processes") is not None
"""A build before there was that folder is told it in a file."""
GAP_S = 0.2
"""Answers come each 20 ms: a pause this long is the outage."""
TASK = c.SubmitTask(
    client_id="c", task_type="inference", payload_uri="s3://x", payload_sha256="0" * 64,
    payload_bytes=1, cpu_milli=1, memory_mib=1, gpus=1, gpu_milli=1, base_reward_micro=1000,
    max_attempts=3, deadline_at=datetime.now(UTC).replace(microsecond=0) + timedelta(days=365),
)  # fmt: skip


def follower(bootstrap: Any) -> Any:
    """The control log, wherever this build has it."""
    name = "everlode.adapters.kafka_follower"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        module = importlib.import_module("everlode.adapters.kafka_control")
    return module.ControlFollower(bootstrap).start()


class Network:
    """One region with a detector, a coordinator and task managers; a lost one is replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = NativeStack.small(folder / "stack")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.count = 0

    def __enter__(self) -> Network:
        self.endpoints: Any = self.stack.up()
        topology = {"regions": ["eu"], "control_replication": 1, "control_min_insync": 1}
        (self.folder / "topology.json").write_text(json.dumps(topology))
        self.control = follower(self.endpoints.control_bootstrap)
        bootstrap = self.endpoints.regions["eu"].kafka_bootstrap
        self.health = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench"})
        self.health.assign([TopicPartition(HEALTH, 0, 0)])
        self.codec = Codec()
        self.start("eu-det-1", "detector", "run")
        for _ in range(NODES):
            self.start_node()
        self.start("eu-co-1", "coordinator", "run")
        self.control.wait_for(lambda s: SCOPE in s.scopes and s.scopes[SCOPE].renewed_at >= 0, 60)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait(10)
        self.health.close()
        self.control.close()
        self.stack.down()

    def start(self, node: str, *words: str) -> None:
        """Start a process, and wait until it has joined."""
        env = {**os.environ, "EVERLODE_STACK_DIR": str(self.folder / "stack")}
        if not ENDPOINTS_HOLD_TOPOLOGY:
            env["EVERLODE_TOPOLOGY"] = str(self.folder / "topology.json")
        command = [sys.executable, "-m", "everlode.cli.main", *words]
        with (self.folder / f"{node}.log").open("ab") as log:
            self.processes[node] = subprocess.Popen(
                [*command, "--region", "eu", "--node-id", node], env=env, stdout=log, stderr=log
            )
        self.control.wait_for(lambda s: node in s.nodes, 30)

    def start_node(self) -> None:
        """Another task manager."""
        self.count += 1
        self.start(f"eu-tm-{self.count}", "node", "run", "task-manager")

    def lost_at(self, node: str) -> float:
        """When it was found lost, in wall seconds. Raises: TimeoutError: it was not."""
        until = time.monotonic() + MOST_S
        while time.monotonic() < until:
            message = self.health.poll(0.5)
            if message is None or message.error() is not None:
                continue
            fact = self.codec.decode_fact(message.value())
            if isinstance(fact.data, NodeLost) and fact.envelope.aggregate_id == node:
                return (fact.envelope.stamp >> 16) / 1000
        raise TimeoutError(f"{node} was not found lost")

    def processor_s(self) -> float:
        """Processor seconds that the processes have used."""
        ticks = 0
        for process in self.processes.values():
            words = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(words[11]) + int(words[12])
        return ticks / os.sysconf("SC_CLK_TCK")


class Load:
    """Commands at a steady rate: each task is submitted, and cancelled half a second later."""

    def __init__(self, client: MiningClient) -> None:
        self.client = client
        self.answered: list[float] = []
        """Wall seconds of the answers."""
        self.failed = self.sent = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        number = 0
        while not self._stop.wait(max(0.0, began + number / (RATE / 2) - time.monotonic())):
            self._send(f"eu/t{number}", TASK)
            if number >= RATE // 4:
                self._send(f"eu/t{number - RATE // 4}", c.CancelTask(reason="r"))
            number += 1

    def _send(self, task: str, command: Any) -> None:
        self.sent += 1
        self.client.send(task, command, timeout_s=60).add_done_callback(self._noted)

    def _noted(self, future: Future[Any]) -> None:
        if future.exception() is not None or future.result().outcome == "refused":
            self.failed += 1
        else:
            self.answered.append(time.time())

    def outage(self, since: float) -> tuple[float, float] | None:
        """Last answer before, and first one after the longest pause since then; None: not over."""
        times = [at for at in list(self.answered) if at > since - 1]
        gaps = [(b - a, a, b) for a, b in pairwise(times) if b > since]
        longest = max(gaps, default=(0.0, 0.0, 0.0))
        over = longest[0] > GAP_S and times[-1] > longest[2] + STEADY_S
        return (longest[1], longest[2]) if over else None

    def stop(self) -> None:
        """Send no more, and wait for what was sent."""
        self._stop.set()
        self._thread.join()
        until = time.monotonic() + MOST_S
        while len(self.answered) + self.failed < self.sent and time.monotonic() < until:
            time.sleep(0.1)


def one_round(network: Network, load: Load, fault: str) -> dict[str, Any]:
    """A fault of the primary, and its failover."""
    time.sleep(STEADY_S)
    node = network.control.state.scopes[SCOPE].primary
    at = time.time()
    network.processes[node].send_signal(signal.Signals[fault])
    lost = network.lost_at(node)
    until = time.monotonic() + MOST_S
    while (found := load.outage(at)) is None:
        if time.monotonic() > until:
            raise TimeoutError(f"{node}: nobody answers after {fault}")
        time.sleep(0.1)
    before, after = found
    gone = network.processes.pop(node)
    gone.kill()
    gone.wait(10)
    network.start_node()
    return {
        "fault": fault,
        "total_s": after - before,
        "detection_s": lost - at,
        "action_s": after - lost,
    }


def main() -> None:
    """`_failover_child.py FOLDER ROUNDS`: so many rounds of each fault."""
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    with Network(folder) as network:
        time.sleep(5)
        before = network.processor_s()
        time.sleep(IDLE_S)
        idle = (network.processor_s() - before) / IDLE_S
        with MiningClient(network.endpoints, "eu", "bench") as client:
            load = Load(client)
            time.sleep(3)
            found = []
            for fault in ("SIGKILL", "SIGSTOP"):
                for _ in range(rounds):
                    found.append(one_round(network, load, fault))
                    print(found[-1], file=sys.stderr)
            load.stop()
    print(json.dumps({"idle": idle, "failed": load.failed, "rounds": found}))


if __name__ == "__main__":
    main()
