"""How long the whole demo takes with a warm cache, and how much memory all its processes need.

Each round is a demo of its own, with the whole trace of `EVERLODE_TRACE` (without it a generated
workload of the same size). Against the limits that it must keep on two cores: 300 s and 8 GB.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.result import MIN_ROUNDS, write

LIMIT_S, LIMIT_GB = 300.0, 8.0


def report(folder: Path) -> dict[str, Any]:
    """The report of one demo. Raises: CalledProcessError: it has not proved its promises."""
    done = subprocess.run(
        [sys.executable, "-m", "everlode.cli.main", "demo", "--json", "--report", str(folder)],
        stdout=subprocess.PIPE, check=True, text=True, timeout=900,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Three rounds; the limits are the same in each."""
    with tempfile.TemporaryDirectory(prefix="everlode-bench-") as folder:
        reports = [report(Path(folder) / str(n)) for n in range(MIN_ROUNDS)]
    more = {"workload": reports[-1]["workload"], "object_store": reports[-1]["object_store"]}
    seconds = [r["times_s"]["total_s"] for r in reports]
    memory = [r["resources"]["peak_resident_bytes"]["all together"] / 1e9 for r in reports]
    write(
        "demo.time", "seconds", seconds, "the limit", [LIMIT_S] * MIN_ROUNDS,
        within_limit=max(seconds) <= LIMIT_S, **more,
    )  # fmt: skip
    write(
        "demo.memory", "GB resident, all processes together", memory, "the limit",
        [LIMIT_GB] * MIN_ROUNDS, within_limit=max(memory) <= LIMIT_GB, **more,
    )  # fmt: skip


if __name__ == "__main__":
    main()
