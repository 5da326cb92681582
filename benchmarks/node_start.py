"""How long a task manager takes to start, and its memory: from a snapshot, and from the beginning.

A history of ended tasks of five facts each, some that are open, and miners; the same topics for
both ways, each start in a process of its own. Against: a former build (BENCH_FORMER, as in
`backup`), which folds every fact; without one, ours without its snapshot. `node_start.time` and
`node_start.memory` are after the whole history; `flat` is our time, or memory, after all of it over
that after a third of it. Both are drawn over the history in `results/node_start.svg`.
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
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro

from benchmarks.backup import former
from benchmarks.result import MIN_ROUNDS, RESULTS, alternate, write
from everlode.adapters.clock import instant
from everlode.adapters.kafka import Record
from everlode.adapters.kafka_writer import Writer
from everlode.avro import compat
from everlode.avro.codec import MARKER, encode_fact
from everlode.demo.charts import BOTTOM, HEIGHT, LEFT, WIDTH, Axes, path, rounded_up
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
FORMER_CHILD = Path(__file__).with_name("_start_former.py")
MARK, FIRST = next(iter(compat.load_past()["TaskAssigned"].items()))
"""The first form of the one fact here that has another one since: a former build reads no newer."""
ASSIGNED = fastavro.parse_schema(FIRST)
COLOURS = ("#1f6feb", "#d1242f")
Seen = dict[str, dict[int, list[dict[str, Any]]]]
"""Way → ended tasks → what its starts printed."""
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


def encoded(envelope: Envelope, event: Event) -> bytes:
    """A fact that both builds read."""
    if not isinstance(event, t.TaskAssigned):
        return encode_fact(envelope, event)
    out = BytesIO()
    fastavro.schemaless_writer(out, ASSIGNED, {"envelope": envelope.__dict__, **event.__dict__})
    return MARKER + bytes.fromhex(MARK) + out.getvalue()


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
                data = encoded(envelope, event)
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
    if way == "former":
        theirs = former()
        assert theirs is not None
        run = [str(theirs[0].python), str(FORMER_CHILD), bootstrap, str(PARTITIONS)]
    done = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """A third of the history, then all of it; three rounds of each way, in turn."""
    sizes = (ENDED // 3, ENDED)
    against = "former" if former() else "beginning"
    seen: Seen = {"snapshot": {}, against: {}}
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
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "node_start.svg").write_text(drawn(seen))
    report(seen, sizes)


def measure(seen: Seen, size: int, bootstrap: str) -> None:
    """Three rounds of both ways at one size."""

    def one(way: str) -> float:
        found = start(way, bootstrap)
        wanted = OPEN if way == "snapshot" else OPEN + size
        if found["alive"] != wanted or found["miners"] != MINERS:
            raise RuntimeError(f"{way}: {found}, expected {wanted} tasks and {MINERS} miners")
        seen[way].setdefault(size, []).append(found)
        return float(found["seconds"])

    ours, theirs = seen
    alternate(MIN_ROUNDS, lambda: one(ours), lambda: one(theirs))


def drawn(seen: Seen) -> str:
    """Medians over the number of ended tasks, time above memory, a line a way, as SVG."""
    parts = list[str]()
    for row, (field, unit) in enumerate((("seconds", " s"), ("rss_mib", " MiB"))):
        lines = {
            way: [(float(n), statistics.median(f[field] for f in runs)) for n, runs in of.items()]
            for way, of in seen.items()
        }
        most = max(n for line in lines.values() for n, _ in line)
        axes = Axes(0.0, most, rounded_up(max(v for line in lines.values() for _, v in line)))
        marks = [f'<text x="4" y="{tick.at}">{tick.text}</text>' for tick in axes.values(unit)]
        marks += [
            f'<text x="{axes.x(n) - 60}" y="{HEIGHT - 4}">{n:,.0f} tasks</text>'
            for n, _ in lines["snapshot"]
        ]
        marks += [
            f'<path d="{path(axes, line, most)}" fill="none" stroke="{colour}"/>'
            f'<text x="{LEFT + 8}" y="{14 + 14 * at}" fill="{colour}">{way}</text>'
            for at, ((way, line), colour) in enumerate(zip(lines.items(), COLOURS, strict=True))
        ]
        marks.append(f'<path d="M{LEFT} 0V{HEIGHT - BOTTOM}H{WIDTH}" fill="none" stroke="#888"/>')
        parts.append(f'<g transform="translate(0 {row * HEIGHT})">' + "\n".join(marks) + "</g>")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {2 * HEIGHT}"'
        ' font-family="sans-serif" font-size="11">\n' + "\n".join(parts) + "\n</svg>\n"
    )


def report(seen: Seen, sizes: tuple[int, int]) -> None:
    """Two results: time and memory."""
    _, against = seen
    build = former()
    named = f"the former build {build[1]}" if build else "a start that folds every fact"
    for name, unit, field, wanted in (
        ("node_start.time", "seconds", "seconds", 1 / 20),
        ("node_start.memory", "MiB, resident at most", "rss_mib", 1 / 8),
    ):
        ours = {size: [f[field] for f in seen["snapshot"][size]] for size in sizes}
        theirs = [f[field] for f in seen[against][sizes[1]]]
        flat = statistics.median(ours[sizes[1]]) / statistics.median(ours[sizes[0]])
        write(
            name, unit, ours[sizes[1]], named, theirs,
            wanted=wanted, flat=round(flat, 2), ended_tasks=sizes[1], open_tasks=OPEN,
            miners=MINERS,
        )  # fmt: skip


if __name__ == "__main__":
    main()
