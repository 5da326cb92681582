"""How much memory a recovery's gate takes, by how many keys there are in one partition.

A generation with that many tasks, all in partition 0, is gated by a process of its own, whose
resident memory is looked at four times a second: rows against state records, key by key, what is
known against what the backup has, what waits. The most at the greatest number of keys, against the
most at the least: it should be as much. The memory over time is drawn in `results/gates.svg`.
BENCH_KEYS: numbers of keys, rising, by commas; smaller ones for a quick look.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks._resident import Run, drawn, watched
from benchmarks.cut_memory import KEYS
from benchmarks.result import MIN_ROUNDS, RESULTS, write
from tests.support.world.backed import Backed
from tests.support.world.filled import fill

GATE = Path(__file__).with_name("_timed_gate.py")


def gated(region: Backed, count: int) -> Run:
    """Gate all that there is; nothing is found against it."""
    arguments = [sys.executable, str(GATE), str(region.stack.data_dir), str(count)]
    run = watched(arguments, region.folder / "gate.log")
    print(f"{count} keys: {run.seconds:.1f} s, {run.most:.0f} MiB", file=sys.stderr)
    return run


def main() -> None:
    """Fill, gate three times, fill further; so on."""
    runs: dict[int, list[Run]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="everlode-bench-") as folder,
        Backed(Path(folder)) as region,
    ):
        filled = 0
        for count in KEYS:
            fill(region, filled, count)
            filled = count
            runs[count] = [gated(region, count) for _ in range(MIN_ROUNDS)]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "gates.svg").write_text(drawn({count: found[-1] for count, found in runs.items()}))
    least, most = KEYS[0], KEYS[-1]
    write(
        "gates", f"MiB resident, {most:,} keys in one partition",
        [run.most for run in runs[most]], f"{least:,} keys", [run.most for run in runs[least]],
        wanted_mib=300, seconds=round(min(run.seconds for run in runs[most]), 1),
        seconds_of_the_least=round(min(run.seconds for run in runs[least]), 1),
    )  # fmt: skip


if __name__ == "__main__":
    main()
