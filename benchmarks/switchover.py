"""How long a client waits because another node is made to lead, as planned.

One region with three task managers, a coordinator and 50 commands a second; in each round
`everlode scope switchover --wait`, alternately with `everlode scope failover --wait`, the peer: the
same change of primary, without the freeze. Measured by the client: the longest time between two
answers in the round (`switchover.outage`); an answer that never comes, or is an error, fails the
run. Wanted: a median of at most 0.5 s. `longest`: the longest of all rounds; `still`: the same
figure of rounds in which nothing is changed, the floor. BENCH_ROUNDS of each (20).
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from itertools import count, pairwise
from pathlib import Path

from benchmarks.result import MIN_ROUNDS, write
from everlode.adapters.kafka_follower import ControlFollower
from everlode.events import commands as c
from everlode.events.base import CommandAnswered
from everlode.sdk import MiningClient
from everlode.stack import NativeStack
from tests.support.processes.entries import await_entry

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "20"))
WANTED_S = 0.5
RATE = 50
BEFORE_S, AFTER_S = 2.0, 3.0
SCOPE = "task-manager/eu"
NODES = ("eu-tm-1", "eu-tm-2", "eu-tm-3")


class Load(threading.Thread):
    """Submits at the rate until `stop`, and notes when each answer came."""

    def __init__(self, client: MiningClient, number: int) -> None:
        super().__init__(daemon=True)
        self.client, self.number = client, number
        self.stop = threading.Event()
        self.at: list[float] = []
        self.waiting: list[Future[CommandAnswered]] = []

    def run(self) -> None:
        """At the rate, whatever the answers do."""
        command = c.SubmitTask(
            client_id="c", task_type="inference", payload_uri="s3://x",
            payload_sha256=hashlib.sha256(b"x").hexdigest(), payload_bytes=1, cpu_milli=1,
            memory_mib=1, gpus=1, gpu_milli=1, base_reward_micro=1000, max_attempts=3,
            deadline_at=self.client._clock.event_now() + timedelta(days=365),
        )  # fmt: skip
        began = time.monotonic()
        for n in count():
            if self.stop.wait(max(0.0, began + n / RATE - time.monotonic())):
                return
            answer = self.client.send(f"eu/r{self.number}-{n}", command)
            answer.add_done_callback(lambda _: self.at.append(time.monotonic()))
            self.waiting.append(answer)

    def outage_s(self) -> float:
        """The longest time between two answers; all must have come."""
        self.stop.set()
        self.join()
        wrong = [a for f in self.waiting if (a := f.result(60)).outcome != "done"]
        assert not wrong, wrong[:3]
        return max(b - a for a, b in pairwise(sorted(self.at)))


class Bench:
    """A region, and a client of it."""

    def __init__(self, folder: Path, stack: NativeStack) -> None:
        self.folder, self.stack = folder, stack
        assert stack.endpoints is not None
        self.endpoints = stack.endpoints
        self.numbers = count()
        self.env = {**os.environ, "EVERLODE_STACK_DIR": str(stack.data_dir)}

    @contextmanager
    def processes(self) -> Iterator[None]:
        """A detector, three task managers and a coordinator."""
        words = {
            "eu-det-1": ("detector", "run"),
            **dict.fromkeys(NODES, ("node", "run", "task-manager", "--priority", "1")),
            "eu-co-1": ("coordinator", "run"),
        }
        running = []
        try:
            for node, verb in words.items():
                log = self.folder / f"{node}.log"
                with log.open("wb") as out:
                    command = [sys.executable, "-m", "everlode.cli.main", *verb]
                    running.append(
                        subprocess.Popen(
                            [*command, "--region", "eu", "--node-id", node],
                            env=self.env, stdout=out, stderr=out,
                        )
                    )  # fmt: skip
                await_entry(log, "ProcessReady", 60)
            yield
        finally:
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                process.wait(20)

    def round(self, client: MiningClient, *verb: str) -> float:
        """The outage in seconds around one verb; around nothing without one."""
        load = Load(client, next(self.numbers))
        load.start()
        time.sleep(BEFORE_S)
        if verb:
            command = [sys.executable, "-m", "everlode.cli.main", "scope", *verb, SCOPE]
            done = subprocess.run(
                [*command, "--wait", "--json"], env=self.env, capture_output=True, check=False
            )
            assert done.returncode == 0, done.stdout
            assert json.loads(done.stdout)["outcome"] == "done"
        time.sleep(AFTER_S)
        return load.outage_s()


def main() -> None:
    """Rounds in turn: nothing, a switchover, a failover."""
    with tempfile.TemporaryDirectory(prefix="everlode-bench-") as folder:
        measure(Path(folder))


def measure(folder: Path) -> None:
    """In this folder."""
    still, ours, peers = list[float](), list[float](), list[float]()
    with NativeStack.small(folder / "stack") as stack:
        stack.up()
        bench = Bench(folder, stack)
        control = ControlFollower(bench.endpoints.control()).start()
        with bench.processes(), MiningClient(bench.endpoints, "eu", "c1") as client:
            control.wait_for(lambda s: s.epoch(SCOPE) >= 1, 60)
            bench.round(client)  # warm
            for _ in range(max(MIN_ROUNDS, ROUNDS)):
                still.append(bench.round(client))
                ours.append(bench.round(client, "switchover"))
                peers.append(bench.round(client, "failover"))
                control.wait_for(
                    lambda s: all(s.nodes[n].status == "healthy" for n in NODES), 60
                )  # the one that was forced out is back
        control.close()
    write(
        "switchover.outage", "s", ours, "everlode scope failover, of a primary that is well", peers,
        longest=round(max(ours), 3), still=round(statistics.median(still), 3),
        wanted_median=WANTED_S, within_limit=statistics.median(ours) <= WANTED_S,
    )  # fmt: skip


if __name__ == "__main__":
    main()
