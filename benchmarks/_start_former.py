"""One start of a former build's task manager, in its own process. Run by its path; prints JSON.

That build has no snapshots: it reads the miners' facts and folds its own, both from the first one.
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
from everlode.sdk.facts import FactLog  # type: ignore[import-untyped]
from everlode.tasks.service import TaskComponent  # type: ignore[import-untyped]
from everlode.topics import Topology
from everlode.topics.place import placed

WITHIN_S = 3600


def main(bootstrap: str, partitions: int) -> None:
    """Start, to the ends of all logs."""
    topology = Topology(regions=("eu",), partitions=partitions)
    began = time.perf_counter()
    component = TaskComponent("eu", topology, "eu-tm-1", timedelta(minutes=1), 10)
    log = FactLog(bootstrap, "eu.1", "tasks", partitions, component.folds.fold)
    codec = Codec()
    with closing(Reader(bootstrap, "start", wait_ms=500, min_bytes=65_536)) as reader:
        starts = {(t, p): 0 for t in component.seen_topics() for p in range(partitions)}
        for batch in reader.to_ends(starts, WITHIN_S):
            for raw in batch:
                component.saw(placed(codec, raw.topic, raw.key, raw.value))
    log._read_on("task-manager/eu", 1, WITHIN_S)
    seconds = time.perf_counter() - began
    lines = Path("/proc/self/status").read_text().splitlines()
    most = int(next(x for x in lines if x.startswith("VmHWM:")).split()[1]) / 1024
    found = {
        "seconds": seconds, "rss_mib": most, "alive": len(component.folds.states["tasks"]),
        "miners": len(component._miners),
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
