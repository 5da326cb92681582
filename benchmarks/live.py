"""How long from an event's acknowledgement until it is visible in a region's projection.

At 500 events a second, for 15 s, by one transactional writer, a transaction each 20 ms.
`live.home` is the home region's projection, `live.remote` another region's, behind its
mirror. Against: the same records read from the same topic of the same cluster by a plain
consumer, that is what Kafka and the mirror alone take. Milliseconds; `p99` beside the medians.
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg

from benchmarks.result import MIN_ROUNDS, write
from everlode.adapters.kafka import Reader, Record
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres_read import current_generation
from everlode.avro.cloudevents import event_headers
from everlode.avro.codec import encode_fact
from everlode.events.base import Fact
from everlode.events.stamp import stamp_at
from everlode.stack import NativeStack
from everlode.topics import Topology
from everlode.topics.names import fact_topic, schema_of
from everlode.topics.partition import partition_of
from tests.support.facts.decided import decide
from tests.support.processes.entries import await_entry
from tests.support.world.projected import histories

RATE, SECONDS, TICK_S = 500, 15, 0.02
REGIONS = ("eu", "us")
TOPOLOGY = Topology(regions=REGIONS, control_replication=1, control_min_insync=1)
TOPIC = fact_topic("eu.1", "tasks")
Times = dict[str, float]
"""Key of a task → monotonic seconds."""


class Run:
    """Writes at the rate, and notes when each task was acknowledged and where it was seen."""

    def __init__(self, stack: NativeStack) -> None:
        assert stack.endpoints is not None
        self.endpoints = stack.endpoints
        self.first: Fact = histories()["tasks"][0]
        self.writer = Writer(self.endpoints.regions["eu"].kafka_bootstrap, "tasks.eu.1")
        self.writer.open()
        self.seqs = [0] * TOPOLOGY.partitions
        self.count = 0

    def record(self, key: str) -> Record:
        """A submitted task, the next record of its partition."""
        partition = partition_of(key, TOPOLOGY.partitions)
        self.seqs[partition] += 1
        envelope = self.first.envelope.model_copy(
            update={
                "event_id": f"e-{key}", "aggregate_id": key, "version": 1, "epoch": 1,
                "origin": "eu.1", "scope": "task-manager/eu", "seq": self.seqs[partition],
                "stamp": stamp_at(time.time_ns() // 1_000_000, self.count % 60_000),
            }
        )  # fmt: skip
        headers = event_headers(envelope, "TaskSubmitted")
        return Record(TOPIC, partition, key, encode_fact(envelope, self.first.data), headers)

    def round(self, seconds: float) -> tuple[Times, dict[str, tuple[Times, Times]]]:
        """Acknowledged, and per region: seen in the projection, seen by the plain consumer."""
        stop = threading.Event()
        rows: dict[str, Times] = {r: {} for r in REGIONS}
        reads: dict[str, Times] = {r: {} for r in REGIONS}
        threads = [
            threading.Thread(target=watch, args=(region, seen[region], stop), daemon=True)
            for watch, seen in ((self.look, rows), (self.read, reads))
            for region in REGIONS
        ]
        for thread in threads:
            thread.start()
        time.sleep(1)
        acked = self.write(seconds)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and any(
            len(acked.keys() - seen.keys()) for seen in (*rows.values(), *reads.values())
        ):
            time.sleep(0.1)
        stop.set()
        for thread in threads:
            thread.join(5)
        return acked, {r: (rows[r], reads[r]) for r in REGIONS}

    def write(self, seconds: float) -> Times:
        """Task → when its transaction was committed."""
        acked: Times = {}
        began = time.monotonic()
        turn = 0
        while (turn := turn + 1) * TICK_S <= seconds:
            due = began + turn * TICK_S
            time.sleep(max(0.0, due - time.monotonic()))
            keys = [f"t-{self.count + n}" for n in range(round(RATE * TICK_S))]
            self.count += len(keys)
            self.writer.write([self.record(key) for key in keys])
            at = time.monotonic()
            acked.update(dict.fromkeys(keys, at))
        return acked

    def look(self, region: str, seen: Times, stop: threading.Event) -> None:
        """Poll the projection for new rows, each 5 ms."""
        conninfo = self.endpoints.regions[region].postgres_conninfo()
        table = f"{schema_of(current_generation(conninfo))}.tasks"
        with psycopg.connect(conninfo, autocommit=True) as db:
            last = dict.fromkeys(range(TOPOLOGY.partitions), 0)
            for p in last:
                found = db.execute(f"select coalesce(max(seq), 0) from {table} where part = {p}")
                last[p] = (found.fetchone() or (0,))[0]
            db.execute(f"create index if not exists bench_seq on {table} (part, seq)")
            while not stop.is_set():
                for p in last:
                    rows = db.execute(
                        f"select key, seq from {table} where part = {p} and seq > {last[p]}"
                    ).fetchall()
                    at = time.monotonic()
                    for key, seq in rows:
                        seen.setdefault(key, at)
                        last[p] = max(last[p], seq)
                time.sleep(0.005)

    def read(self, region: str, seen: Times, stop: threading.Event) -> None:
        """Read the topic with a plain consumer."""
        reader = Reader(self.endpoints.regions[region].kafka_bootstrap, "bench", wait_ms=20)
        places = [(TOPIC, p) for p in range(TOPOLOGY.partitions)]
        reader.assign(reader.ends(places))
        while not stop.is_set():
            for raw in reader.batch(500, 0.05, 0.0):
                seen.setdefault((raw.key or b"").decode(), time.monotonic())
        reader.close()


def latencies(acked: Times, seen: Times) -> list[float]:
    """Milliseconds, sorted; a task seen before its acknowledgement was noted counts as 0."""
    lost = acked.keys() - seen.keys()
    assert not lost, f"{len(lost)} tasks were never seen"
    return sorted(max(0.0, seen[k] - acked[k]) * 1000 for k in acked)


def p99(values: list[float]) -> float:
    """The 99th percentile of sorted values."""
    return values[min(len(values) - 1, round(len(values) * 0.99))]


def projectors(stack: NativeStack, folder: Path) -> list[subprocess.Popen[bytes]]:
    """One projector process a region, ready."""
    found = []
    for region in REGIONS:
        log = folder / f"{region}.log"
        with log.open("wb") as out:
            found.append(
                subprocess.Popen(
                    [sys.executable, "-m", "everlode.cli.main", "projector", "run", "--region",
                     region, "--node-id", f"{region}-proj-1", "--dir", str(stack.data_dir)],
                    stdout=out, stderr=out,
                )
            )  # fmt: skip
        await_entry(log, "ProcessReady", 60)
    return found


def main() -> None:
    """A warm round, then three."""
    with tempfile.TemporaryDirectory(prefix="everlode-bench-") as folder:
        measure(Path(folder))


def measure(folder: Path) -> None:
    """In this folder."""
    ours: dict[str, list[list[float]]] = {r: [] for r in REGIONS}
    plain: dict[str, list[list[float]]] = {r: [] for r in REGIONS}
    with NativeStack(TOPOLOGY, folder / "stack", control_nodes=1, s3=None) as stack:
        control = stack.up().control_bootstrap
        assert control is not None
        decide(control, "task-manager/eu", 1)  # the epoch of the facts
        running = projectors(stack, folder)
        try:
            run = Run(stack)
            run.round(5)
            for _ in range(MIN_ROUNDS):
                acked, seen = run.round(SECONDS)
                for region in REGIONS:
                    rows, reads = seen[region]
                    ours[region].append(latencies(acked, rows))
                    plain[region].append(latencies(acked, reads))
        finally:
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                process.wait(20)
    for region, name in zip(REGIONS, ("live.home", "live.remote"), strict=True):
        write(
            name, "milliseconds", [statistics.median(v) for v in ours[region]],
            "a plain consumer of the same topic", [statistics.median(v) for v in plain[region]],
            p99=round(statistics.median(p99(v) for v in ours[region]), 1),
            p99_plain=round(statistics.median(p99(v) for v in plain[region]), 1),
            events_a_second=RATE, seconds_a_round=SECONDS,
        )  # fmt: skip


if __name__ == "__main__":
    main()
