"""How long an event takes to 1,000 listeners of `/events`, and what one listener takes.

In each round a server of its own, and as many listeners as it admits, in another process; the next
one is refused, or nothing is measured. Five events a second, a transaction each, for 20 s.
`sse.delay`: milliseconds from an event's acknowledgement until a listener has read it, 99 of 100 of
all events and listeners, against one plain EventConsumer of the same topic in the same seconds.
`sse.memory`: kilobytes that the server holds resident at the end and did not before they came, a
listener; against what one more EventConsumer adds to a process that has one. Server and listeners
share the cores.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.live import Run, Times, p99
from benchmarks.result import MIN_ROUNDS, write
from everlode.api.feed import LISTENERS
from tests.support.facts.decided import decide
from tests.support.world.region import Region, until
from tests.support.world.serving import Server

CHILD = Path(__file__).with_name("_sse_child.py")
RATE, SECONDS = 5, 20
PATH = "/events?of=tasks"
AFTER_S = 5.0
"""Events are waited for, after the last one was acknowledged."""


class Child:
    """A process that listens."""

    def __init__(self, *words: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(CHILD), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("ready"):
            raise RuntimeError(f"{words}: does not listen: {line}")

    def end(self) -> dict[str, Any]:
        """What it has seen."""
        out, _ = self._process.communicate("end\n", timeout=60)
        found: dict[str, Any] = json.loads(out)
        return found


class Round(NamedTuple):
    """Milliseconds, sorted; kilobytes."""

    delays: list[float]
    delays_plain: list[float]
    memory: float
    memory_plain: float


def paced(run: Run) -> Times:
    """Write at the rate; event → when it was acknowledged."""
    acked: Times = {}
    began = time.monotonic()
    for number in range(RATE * SECONDS):
        time.sleep(max(0.0, began + number / RATE - time.monotonic()))
        key = f"eu/t-{run.count}"
        run.count += 1
        run.writer.write([run.record(key)])
        acked[key] = time.monotonic()
    return acked


def delays(acked: Times, seen: dict[str, list[float]], each: int) -> list[float]:
    """Milliseconds, sorted. Raises: RuntimeError: an event did not come to all, or came twice."""
    for key in acked:
        if len(seen.get(key, ())) != each:
            raise RuntimeError(f"{key} came {len(seen.get(key, ()))} times, of {each}")
    return sorted(max(0.0, at - acked[key]) * 1000 for key in acked for at in seen[key])


def one(region: Region, run: Run, log: Path) -> Round:
    """A server, its listeners, the events."""
    with Server(region.stack.data_dir, log, "--insecure") as server:
        until(lambda: server.listens("?of=tasks"), 60, "the stream is read")
        process = psutil.Process(server.process.pid)
        consumer = Child("consumer", str(region.stack.data_dir), "eu", "tasks")
        before = process.memory_info().rss
        listeners = Child("listeners", server.address, PATH, str(LISTENERS))
        refused = server.listen("?of=tasks")
        if refused.status != 503:
            raise RuntimeError(f"listener {LISTENERS + 1} got {refused.status}, not 503")
        refused.close()
        acked = paced(run)
        time.sleep(AFTER_S)
        after = process.memory_info().rss
        ours, theirs = listeners.end(), consumer.end()
    return Round(
        delays(acked, ours["seen"], LISTENERS), delays(acked, theirs["seen"], 1),
        (after - before) / LISTENERS / 1000, theirs["more_bytes"] / 1000,
    )  # fmt: skip


def main() -> None:
    """Rounds, each with a new server."""
    with (
        tempfile.TemporaryDirectory(prefix="everlode-bench-") as folder,
        Region(Path(folder)) as region,
    ):
        assert region.endpoints.control_bootstrap is not None
        decide(region.endpoints.control_bootstrap, "task-manager/eu", 1)  # the facts' epoch
        run = Run(region.stack)
        rounds = []
        for number in range(MIN_ROUNDS):
            rounds.append(one(region, run, Path(folder) / "serve.log"))
            print(number, p99(rounds[-1].delays), rounds[-1].memory, file=sys.stderr)
    write(
        "sse.delay", f"ms, p99 from acknowledged to read, {LISTENERS:,} listeners",
        [p99(r.delays) for r in rounds], "one plain EventConsumer in the same run",
        [p99(r.delays_plain) for r in rounds], wanted_ms=500, events_a_second=RATE,
        median_ms=round(statistics.median(statistics.median(r.delays) for r in rounds), 1),
        median_plain_ms=round(
            statistics.median(statistics.median(r.delays_plain) for r in rounds), 1
        ),
        slowest_ms=round(max(r.delays[-1] for r in rounds), 1),
    )  # fmt: skip
    write(
        "sse.memory", "kB resident a listener", [r.memory for r in rounds],
        "one more EventConsumer in a process", [r.memory_plain for r in rounds], wanted_kb=60,
    )  # fmt: skip


if __name__ == "__main__":
    main()
