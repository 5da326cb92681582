"""How long a task manager takes to start, and its memory: from a snapshot, and from the beginning.

A history of ended tasks of five facts each, some that are open, and miners; the same topics for
both ways, each start in a process of its own. Without a snapshot a node folds every fact, as all
did before there were snapshots. `node_start.time` and `node_start.memory` are after the whole
history; `flat` is our time, or memory, after all of it over that after a third of it.
BENCH_ENDED tasks in all (300,000).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.result import MIN_ROUNDS, alternate, write
from everlode.adapters.clock import instant
from everlode.adapters.kafka import Record
from everlode.adapters.kafka_writer import Writer
from everlode.avro.codec import encode_fact
from everlode.events import miners as m
from everlode.events import tasks as t
from everlode.events.base import Envelope, Event
from everlode.log.facts import FactLog
from everlode.log.memory import Memory
from everlode.miners.component import MinerComponent
from everlode.primary.component import Component
from everlode.settings.endpoints import RegionParts
from everlode.stack import NativeStack
from everlode.tasks.component import TaskComponent
from everlode.topics import Topology
from everlode.topics.names import fact_topic
from everlode.topics.partition import partition_of

ENDED = int(os.environ.get("BENCH_ENDED", "300000"))
OPEN = ENDED // 100
MINERS = ENDED // 10
PARTITIONS = 2
BATCH = 5_000
NOW = instant(1_800_000_000_000)
DIGEST = sha256(b"x").hexdigest()
CHILD = Path(__file__).with_name("_start_child.py")
TOPOLOGY = Topology(regions=("eu",), partitions=PARTITIONS)
SUBMITTED = t.TaskSubmitted(
    client_id="c", task_type="inference", payload_uri="s3://x", payload_sha256=DIGEST,
    payload_bytes=1, cpu_milli=1, memory_mib=1, gpus=1, gpu_milli=1, base_reward_micro=1000,
    max_attempts=3, deadline_at=NOW + timedelta(days=3000),
)  # fmt: skip
REGISTERED = m.MinerRegistered(
    operator_id="o", endpoint="e", specialties=("inference",), gpus=1, gpu_model="any",
    cpu_milli=1000, memory_mib=1024, max_concurrent=1,
)  # fmt: skip


def life(number: int) -> list[Event]:
    """The five facts of a task that is rewarded."""
    miner = f"m{number % MINERS}"
    return [
        SUBMITTED,
        t.TaskAssigned(
            attempt=1, miner_id=miner, manager_node="eu-tm-1", lease_until=NOW,
            base_reward_micro=1000,
        ),
        t.TaskSolved(
            attempt=1, miner_id=miner, solution_id=f"s{number}", solution_uri="s3://s",
            solution_sha256=DIGEST, solution_bytes=1, work_ms=1000, task_type="inference",
            payload_sha256=DIGEST, payload_bytes=1, base_reward_micro=1000,
        ),
        t.TaskValidated(
            validation_id=f"v-s{number}", solution_id=f"s{number}", miner_id=miner,
            score_ppm=1_000_000,
        ),
        t.TaskRewarded(miner_id=miner, reward_id=f"t{number}|{miner}", amount_micro=1000),
    ]  # fmt: skip


class History:
    """Writes facts of one component, as its primary would have."""

    def __init__(self, bootstrap: str, component: str, scope: str) -> None:
        self._topic, self._scope = fact_topic("eu.1", component), scope
        self._bootstrap, self._id = bootstrap, f"{component}.eu.1"
        self._seqs = [0] * PARTITIONS
        self._stamp = 1_800_000_000_000 << 16

    def write(self, lives: Iterator[tuple[str, list[Event]]]) -> None:
        """Write aggregates with all their facts; whoever wrote before is fenced."""
        writer = Writer(self._bootstrap, self._id)
        writer.open()
        records: list[Record] = []
        for key, events in lives:
            partition = partition_of(key, PARTITIONS)
            for version, event in enumerate(events, 1):
                self._seqs[partition] += 1
                self._stamp += 1
                envelope = Envelope.model_construct(
                    event_id=f"{key}/{version}", aggregate_id=key, version=version,
                    origin="eu.1", scope=self._scope, epoch=1, seq=self._seqs[partition],
                    stamp=self._stamp, occurred_at=NOW, command_id=f"{key}/c{version}",
                    correlation_id=key, causation_id=None, source_topic=None,
                    source_partition=None, source_position=None,
                )  # fmt: skip
                data = encode_fact(envelope, event)
                records.append(Record(self._topic, partition, key, data, []))
            if len(records) >= BATCH:
                writer.write(records)
                records = []
        if records:
            writer.write(records)


def snapshot(bootstrap: str, component: Component, scope: str) -> None:
    """Let a primary of this component write its snapshot to the end."""
    parts = RegionParts("eu", "eu.1", bootstrap, PARTITIONS)
    log = FactLog(bootstrap, "eu.1", component.name, PARTITIONS, component.folds.fold)
    memory = Memory(component.folds, log, parts)
    memory.start()
    log.open({scope: 1}, 3600)
    memory.catch_up()
    while rest := memory.rest():
        memory.committed(log.append([], beside=rest), {})
    log.close()
    memory.close()


def start(way: str, bootstrap: str) -> dict[str, Any]:
    """One start in a process of its own."""
    run = [sys.executable, str(CHILD), way, bootstrap, str(PARTITIONS)]
    done = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """A third of the history, then all of it; three rounds of each way, in turn."""
    sizes = (ENDED // 3, ENDED)
    seen: dict[str, dict[int, list[dict[str, Any]]]] = {"snapshot": {}, "beginning": {}}
    with tempfile.TemporaryDirectory(prefix="everlode-bench-") as folder:
        stack = NativeStack.small(Path(folder) / "stack")
        try:
            bootstrap = stack.up().regions["eu"].kafka_bootstrap
            miners = History(bootstrap, "miners", "miner-registry/eu")
            miners.write((f"m{n}", [REGISTERED]) for n in range(MINERS))
            snapshot(bootstrap, MinerComponent("eu", TOPOLOGY), "miner-registry/eu")
            tasks = History(bootstrap, "tasks", "task-manager/eu")
            tasks.write((f"open{n}", [SUBMITTED]) for n in range(OPEN))
            for before, size in zip((0, *sizes), sizes, strict=False):
                tasks.write((f"t{n}", life(n)) for n in range(before, size))
                minute = timedelta(minutes=1)
                component = TaskComponent("eu", TOPOLOGY, "eu-tm-1", minute, 10)
                snapshot(bootstrap, component, "task-manager/eu")
                measure(seen, size, bootstrap)
        finally:
            stack.down()
    report(seen, sizes)


def measure(seen: dict[str, dict[int, list[dict[str, Any]]]], size: int, bootstrap: str) -> None:
    """Three rounds of both ways at one size."""

    def one(way: str) -> float:
        found = start(way, bootstrap)
        wanted = OPEN if way == "snapshot" else OPEN + size
        if found["alive"] != wanted or found["miners"] != MINERS:
            raise RuntimeError(f"{way}: {found}, expected {wanted} tasks and {MINERS} miners")
        seen[way].setdefault(size, []).append(found)
        return float(found["seconds"])

    alternate(MIN_ROUNDS, lambda: one("snapshot"), lambda: one("beginning"))


def report(seen: dict[str, dict[int, list[dict[str, Any]]]], sizes: tuple[int, int]) -> None:
    """Two results: time and memory."""
    for name, unit, field, wanted in (
        ("node_start.time", "seconds", "seconds", 1 / 20),
        ("node_start.memory", "MiB, resident at most", "rss_mib", 1 / 8),
    ):
        ours = {size: [f[field] for f in seen["snapshot"][size]] for size in sizes}
        theirs = [f[field] for f in seen["beginning"][sizes[1]]]
        flat = statistics.median(ours[sizes[1]]) / statistics.median(ours[sizes[0]])
        write(
            name, unit, ours[sizes[1]], "a start that folds every fact", theirs,
            wanted=wanted, flat=round(flat, 2), ended_tasks=sizes[1], open_tasks=OPEN,
            miners=MINERS,
        )  # fmt: skip


if __name__ == "__main__":
    main()
