"""What a detector's core costs a heartbeat, and how much it remembers, by the number of nodes.

One partition's detector is given heartbeats of so many nodes, each one a second, and a barrier a
second, by a process of its own: what it makes of them counts, in processor time, and the making of
the records does not. `detector`: heartbeats a second of one core at the most nodes, barriers and
the looking through all nodes at each of them included; against what was promised. `detector.cost`:
microseconds a heartbeat at the most nodes, against the fewest: it does the same for each, and what
it knows of 100,000 does not fit the processor's caches; all are drawn in `results/detector.svg`.
`detector.memory`: MiB that the most nodes take after 36 seconds of heartbeats, when all of them
have all the intervals that are kept; against what was promised.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import psutil

from benchmarks.result import MIN_ROUNDS, RESULTS, write
from everlode.adapters.clock import instant
from everlode.demo.charts import BOTTOM, HEIGHT, LEFT, WIDTH, rounded_up
from everlode.detection.detector import Detector
from everlode.events.barriers import Barrier
from everlode.events.base import Envelope, Event, Fact
from everlode.events.heartbeats import NodeBeat

NODES = (1_000, 3_000, 10_000, 30_000, 100_000)
SECONDS = 36
AT_ONCE = 1_000
RATE, MEMORY_MIB = 150_000.0, 200.0
BEGAN_MS = 1_800_000_000_000
MIB = 1 << 20


class Cost(NamedTuple):
    """Of one detector."""

    us: float
    """Microseconds a heartbeat."""
    mib: float


def fact(key: str, at_ms: int, seq: int, data: Event) -> Fact:
    """A record of a heartbeat partition."""
    envelope = Envelope(
        event_id=f"e{seq}", aggregate_id=key, version=1, origin="eu.1", scope="task-manager/eu",
        epoch=1, seq=seq, stamp=at_ms << 16, occurred_at=instant(at_ms), correlation_id=key,
    )  # fmt: skip
    return Fact(envelope, data)


def heartbeat(node: int, second: int) -> NodeBeat:
    """Of a secondary at work."""
    return NodeBeat(
        component="task-manager", kind="", role="secondary", held_epoch=1,
        endpoint=f"10.0.{node // 250}.{node % 250}:7000", status="healthy", load_ppm=1,
        current_tasks=1, max_concurrent=8, work_done=second, queue_size=0, specialties=(),
        interval_ms=1000,
    )  # fmt: skip


def observed(nodes: int) -> Cost:
    """Feed one detector, in this process."""
    detector = Detector("eu.1.heartbeats", 0)
    before, spent, offset = psutil.Process().memory_info().rss, 0.0, 0
    for second in range(SECONDS):
        at_ms = BEGAN_MS + 1000 * second
        for first in range(0, nodes, AT_ONCE):
            facts = [
                fact(f"eu-tm-{n}", at_ms + 1000 * n // nodes, offset + n, heartbeat(n, second))
                for n in range(first, first + AT_ONCE)
            ]
            began = time.thread_time()
            for number, record in enumerate(facts, offset + 1):
                detector.observe(number, record)
            spent += time.thread_time() - began
            offset += AT_ONCE
        offset += 1
        barrier = fact("eu.1", at_ms + 1000, offset, Barrier(writer_id="eu-mr-1"))
        began = time.thread_time()
        verdicts = detector.observe(offset, barrier)
        spent += time.thread_time() - began
        if verdicts:
            raise RuntimeError(f"they all beat, and it says {verdicts[0]}")
    if len(detector.nodes) != nodes:
        raise RuntimeError(f"it knows {len(detector.nodes)} nodes of {nodes}")
    used = psutil.Process().memory_info().rss - before
    return Cost(spent * 1e6 / (nodes * SECONDS), used / MIB)


def measured(nodes: int) -> Cost:
    """In a process of its own."""
    run = [sys.executable, "-m", "benchmarks.detector", str(nodes)]
    done = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True)
    cost = Cost(*json.loads(done.stdout))
    print(f"{nodes:,} nodes: {cost.us:.2f} us, {cost.mib:.0f} MiB", file=sys.stderr)
    return cost


def drawn(costs: Mapping[int, Sequence[float]]) -> str:
    """Microseconds a heartbeat by the number of nodes, a column each from least to most."""
    top, floor = rounded_up(max(map(max, costs.values()))), HEIGHT - BOTTOM
    width = (WIDTH - LEFT) / len(costs)
    marks = [f'<path d="M{LEFT} 0V{floor}H{WIDTH}" fill="none" stroke="#888"/>']
    for number, (nodes, found) in enumerate(costs.items()):
        x, middle = LEFT + width * (number + 0.5), sorted(found)[len(found) // 2]
        high, low = (floor * (1 - value / top) for value in (max(found), min(found)))
        marks.append(
            f'<path d="M{x:.0f} {high:.1f}V{low:.1f}" stroke="#1f6feb" stroke-width="3"/>'
            f'<circle cx="{x:.0f}" cy="{floor * (1 - middle / top):.1f}" r="4" fill="#1f6feb"/>'
            f'<text x="{x + 8:.0f}" y="{floor * (1 - middle / top):.1f}">{middle:.2f} us</text>'
            f'<text x="{x - 20:.0f}" y="{HEIGHT - 4}">{nodes:,} nodes</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="11">\n' + "\n".join(marks) + "\n</svg>\n"
    )


def main() -> None:
    """All numbers of nodes in turn, three times."""
    costs: dict[int, list[Cost]] = {nodes: [] for nodes in NODES}
    for _ in range(MIN_ROUNDS):
        for nodes in NODES:
            costs[nodes].append(measured(nodes))
    RESULTS.mkdir(exist_ok=True)
    us = {nodes: [cost.us for cost in found] for nodes, found in costs.items()}
    (RESULTS / "detector.svg").write_text(drawn(us))
    least, most = NODES[0], NODES[-1]
    write(
        "detector", f"heartbeats/s of a core, {most:,} nodes", [1e6 / value for value in us[most]],
        "what was promised", [RATE] * MIN_ROUNDS,
    )  # fmt: skip
    write(
        "detector.cost", f"us a heartbeat, {most:,} nodes", us[most], f"{least:,} nodes", us[least]
    )
    write(
        "detector.memory", f"MiB, {most:,} nodes", [cost.mib for cost in costs[most]],
        "what was promised", [MEMORY_MIB] * MIN_ROUNDS,
    )  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(observed(int(sys.argv[1]))))
    else:
        main()
