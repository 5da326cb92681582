"""One start of a task manager's memory, in a process of its own. Prints JSON.

`snapshot`: as a node starts. `beginning`: as one without a snapshot, which folds all facts.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from everlode.adapters.kafka import Reader
from everlode.avro.codec import Codec
from everlode.log.facts import FactLog
from everlode.log.memory import Memory
from everlode.primary.seen import Seen
from everlode.settings.endpoints import RegionParts
from everlode.tasks.component import TaskComponent
from everlode.topics import Topology
from everlode.topics.place import placed


def most_resident_mib() -> float:
    """Of this process alone: `ru_maxrss` begins with what its parent held as it was started."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(x for x in lines if x.startswith("VmHWM:")).split()[1]) / 1024


def look_at_all(component: TaskComponent, parts: RegionParts) -> None:
    """The miners' facts, from the first one."""
    codec = Codec()
    with closing(Reader(parts.bootstrap, "start", wait_ms=500, min_bytes=65_536)) as reader:
        starts = {(t, p): 0 for t in component.seen_topics() for p in range(parts.partitions)}
        for batch in reader.to_ends(starts, 600):
            for raw in batch:
                component.observe(placed(codec, raw.topic, raw.key, raw.value))


def main(way: str, bootstrap: str, partitions: int) -> None:
    """Start, to the ends of all logs."""
    topology = Topology(regions=("eu",), partitions=partitions)
    parts = RegionParts("eu", "eu.1", bootstrap, partitions)
    began = time.perf_counter()
    component = TaskComponent("eu", topology, "eu-tm-1", timedelta(minutes=1), 10)
    log = FactLog(bootstrap, "eu.1", "tasks", partitions, component.folds.fold)
    if way == "snapshot":
        memory = Memory(component.folds, log, parts)
        memory.start()
        memory.catch_up(600)
        seen = Seen(component, parts)
        seen.start()
        seen.catch_up()
    else:
        look_at_all(component, parts)
    log.read_to_ends(600)
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - began,
                "rss_mib": most_resident_mib(),
                "alive": len(component.folds.states["tasks"]),
                "miners": len(component._miners),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
