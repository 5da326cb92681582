"""How long a service is without a primary after its process was killed, or stands still.

One region with a detector, a coordinator and three task managers at their defaults, under 50
commands a second. `failover.killed` is SIGKILL of the primary, `failover.silent` SIGSTOP: seconds
from the last answer of the one to the first of its successor. Of it, `detection` is from the
signal to the verdict, `action` from the verdict to that first answer; `p95` beside the medians.
`idle` is what the processes use of a core while nothing happens. Against: the same rounds of
a former build, whose folder with its .venv BENCH_FORMER names; without it, what was promised.
BENCH_ROUNDS of each fault (20).
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.result import MIN_ROUNDS, write

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "20"))
FORMER = os.environ.get("BENCH_FORMER", "")
FORMER_ROUNDS = 3
CHILD = Path(__file__).with_name("_failover_child.py")
ACTION_S = 0.5
FAULTS = {
    "SIGKILL": ("failover.killed", 2.0, 3.0),
    "SIGSTOP": ("failover.silent", 5.0, 5.0),
}
"""Signal → name, and the most that its median and its p95 may be, in seconds."""
Rounds = list[dict[str, Any]]


def measure(python: str, rounds: int) -> dict[str, Any]:
    """The rounds of the build that this interpreter has."""
    with tempfile.TemporaryDirectory(prefix="everlode-bench-") as folder:
        run = [python, str(CHILD), folder, str(rounds)]
        done = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    if found["failed"]:
        raise RuntimeError(f"{found['failed']} commands failed")
    return found


def p95(values: Sequence[float]) -> float:
    """The 95th percentile, one of the values."""
    return sorted(values)[math.ceil(len(values) * 0.95) - 1]


def of(found: dict[str, Any], fault: str, field: str) -> list[float]:
    """One figure of all rounds of a fault."""
    return [r[field] for r in found["rounds"] if r["fault"] == fault]


def main() -> None:
    """Ours, then the former build's."""
    ours = measure(sys.executable, max(MIN_ROUNDS, ROUNDS))
    former = measure(f"{FORMER}/.venv/bin/python", FORMER_ROUNDS) if FORMER else None
    for fault, (name, median_s, most_s) in FAULTS.items():
        total, action = of(ours, fault, "total_s"), of(ours, fault, "action_s")
        more: dict[str, Any] = {
            "detection_median": round(statistics.median(of(ours, fault, "detection_s")), 3),
            "action_median": round(statistics.median(action), 3),
            "action_p95": round(p95(action), 3),
            "p95": round(p95(total), 3),
            "wanted_median": median_s, "wanted_p95": most_s, "wanted_action": ACTION_S,
            "within_limits": statistics.median(total) <= median_s
            and p95(total) <= most_s
            and statistics.median(action) <= ACTION_S,
            "idle_cores": round(ours["idle"], 3),
        }  # fmt: skip
        against, theirs = "what was promised", [median_s] * MIN_ROUNDS
        if former is not None:
            against, theirs = "the former build", of(former, fault, "total_s")
            more["former_detection"] = round(statistics.median(of(former, fault, "detection_s")), 3)
            more["former_action"] = round(statistics.median(of(former, fault, "action_s")), 3)
            more["former_rounds"] = len(theirs)
            more["former_idle_cores"] = round(former["idle"], 3)
        write(name, "seconds", total, against, theirs, **more)


if __name__ == "__main__":
    main()
