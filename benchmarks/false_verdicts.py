"""Whom a detector at its defaults takes for lost or unwell while nobody is: wanted is nobody.

One region with all services, a projector, a detector and a coordinator. It rests for a tenth of
the time; then a client for each core submits and cancels tasks as fast as they are answered, for
BENCH_SECONDS (600). Nothing is stopped or killed, so any verdict of that time that is acted on, or
told to operators, is false: the run fails by name. It fails too when the load did not bite: less
than nine tenths of the cores' time used. Figures: of each node the longest time between two beats
under load, against the same nodes' at rest. `suspected`: silences that were probed and forgiven.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from benchmarks.result import write
from everlode.adapters.kafka_follower import ControlFollower
from everlode.avro.codec import Codec
from everlode.demo.work import now_ms
from everlode.detection.replay import VERDICTS
from everlode.events.base import Fact
from everlode.events.health import NodeRecovered, NodeSuspected
from everlode.events.heartbeats import NodeBeat
from everlode.events.stamp import millis_of
from everlode.fleet.fleet import Fleet
from everlode.fleet.levels import await_leaders
from everlode.stack import NativeStack
from everlode.topics.names import fact_topic
from tests.support.facts.whole_topic import records

SECONDS = int(os.environ.get("BENCH_SECONDS", "600"))
REST_S = max(20, SECONDS // 10)
WARM_S = 15
"""After the start: a detector's grace, and what processes do once."""
BUSY = 0.9
FALSE = tuple(kind for kind in VERDICTS if kind not in (NodeSuspected, NodeRecovered))


class Seen:
    """What a region's logs have of a time, in wall milliseconds."""

    def __init__(self, bootstrap: str, origin: str, partitions: int) -> None:
        codec = Codec()

        def facts(component: str, parts: int) -> list[Fact]:
            found = records(bootstrap, fact_topic(origin, component), parts)
            return [codec.decode_fact(raw.value) for raw in found]

        self._beats = [f for f in facts("heartbeats", partitions) if isinstance(f.data, NodeBeat)]
        self._verdicts = [f for f in facts("health", 1) if isinstance(f.data, VERDICTS)]

    def silences_s(self, begin: int, end: int) -> dict[str, float]:
        """Node → the longest time between two of its beats, as it sent them."""
        at: defaultdict[str, list[int]] = defaultdict(list)
        for beat in self._beats:
            if begin <= (ms := millis_of(beat.envelope.stamp)) < end:
                at[beat.envelope.aggregate_id].append(ms)
        return {
            node: max(b - a for a, b in pairwise([begin, *sorted(times), end])) / 1000
            for node, times in at.items()
        }

    def verdicts(self, begin: int) -> list[Fact]:
        """All from then on."""
        return [f for f in self._verdicts if millis_of(f.envelope.stamp) >= begin]


def rest(fleet: Fleet, seconds: float) -> tuple[int, int]:
    """Wait; from when to when. Raises: RuntimeError: a process has ended meanwhile."""
    begin = now_ms()
    time.sleep(seconds)
    if dead := fleet.dead():
        raise RuntimeError(f"{', '.join(dead)}: ended by itself, see its log")
    return begin, now_ms()


def main() -> None:
    """At rest, then under load."""
    with tempfile.TemporaryDirectory(prefix="everlode-bench-") as folder:
        measure(Path(folder))


def measure(folder: Path) -> None:
    """In this folder."""
    clients = [f"load{n}" for n in range(os.cpu_count() or 1)]
    with NativeStack.small(folder / "stack") as stack:
        endpoints = stack.up()
        fleet = Fleet(folder / "logs", {"EVERLODE_STACK_DIR": str(stack.data_dir)})
        try:
            fleet.start_region("eu")
            follower = ControlFollower(endpoints.control()).start()
            await_leaders(follower, endpoints.topology, 120, lambda: None)
            epochs = {name: scope.epoch for name, scope in follower.state.scopes.items()}
            rest(fleet, WARM_S)
            still = rest(fleet, REST_S)
            for name in clients:
                fleet.start(name, "load", "benchmarks._loading", name)
            rest(fleet, WARM_S)
            psutil.cpu_percent()  # from here on
            loaded = rest(fleet, SECONDS)
            busy = psutil.cpu_percent() / 100
            fleet.stop(clients)
            changed = {n for n, s in follower.state.scopes.items() if epochs.get(n) != s.epoch}
            follower.close()
            place = endpoints.parts("eu")
            seen = Seen(place.bootstrap, place.origin, place.partitions)
        finally:
            fleet.end()
    logs = [(folder / "logs" / f"{name}.log").read_text() for name in clients]
    answered = sum(json.loads(log.splitlines()[-1])["answered"] for log in logs)
    found = seen.verdicts(still[0])
    false = [f"{type(f.data).__name__} {f.data}" for f in found if isinstance(f.data, FALSE)]
    under, quiet = seen.silences_s(*loaded), seen.silences_s(*still)
    counts: dict[str, Any] = {
        "false_verdicts": len(false), "wanted_false_verdicts": 0,
        "suspected": sum(isinstance(f.data, NodeSuspected) for f in found),
        "seconds": SECONDS, "nodes": len(under), "cores_used": round(busy, 3),
        "commands_answered": answered, "longest": max(under.values()),
    }  # fmt: skip
    if busy < BUSY or not answered:
        raise RuntimeError(f"the load did not bite: {counts}")
    write(
        "false_verdicts", "s, the longest time between two beats of a node", list(under.values()),
        "the same nodes at rest", [quiet[node] for node in under], **counts,
    )  # fmt: skip
    if false or changed:
        kinds = Counter(line.split()[0] for line in false)
        raise RuntimeError(f"false verdicts {dict(kinds)}, scopes that changed {changed}: {false}")


if __name__ == "__main__":
    main()
