"""How long a three-region stack takes until all of it serves, with a warm cache.

Ours: parts side by side, Java's AOT cache. Against: the same parts one after another, without that
cache. Each start is of an empty data folder: it formats nodes, initialises databases, creates all
topics, and ends when every mirror flow runs.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.result import MIN_ROUNDS, alternate, write
from everlode.stack import Limits, NativeStack
from everlode.stack.native.parts import provision
from everlode.telemetry.sink import to_stream

LIMIT_S = 30.0


def start(parallel: bool, aot: bool, resident: list[int]) -> float:
    """Seconds of one start; its memory is added to `resident` (bytes)."""
    folder = Path(tempfile.mkdtemp(prefix="everlode-bench-"))
    limits = Limits(parallel=parallel, aot=aot)
    try:
        with NativeStack(data_dir=folder / "stack", limits=limits) as stack:
            stack.up()
            resident.append(sum(stack.resident_bytes().values()))
            seconds = stack.timings_s["total"]
    finally:
        shutil.rmtree(folder)
    print(f"{'parallel' if parallel else 'serial'}: {seconds:.1f} s", file=sys.stderr)
    return seconds


def main() -> None:
    """Three rounds, alternating."""
    provision(to_stream("", "text"))
    resident: list[int] = []
    ours, theirs = alternate(
        MIN_ROUNDS,
        lambda: start(True, True, resident),
        lambda: start(False, False, []),
    )
    write(
        "stack",
        "seconds",
        ours,
        "the same parts one after another, without Java's AOT cache",
        theirs,
        limit_s=LIMIT_S,
        within_limit=max(ours) <= LIMIT_S,
        resident_mib=max(resident) // 2**20,
    )


if __name__ == "__main__":
    main()
