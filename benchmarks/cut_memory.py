"""How much memory a backup takes, by how many keys there are in one partition.

A region with that many tasks, all in partition 0, is backed up and verified by a process of its
own, whose resident memory is looked at four times a second. `cut_memory`: the most at the greatest
number of keys, against the most at the least: it should be as much. `cut_memory.time`: seconds at
the least number, against a former build (BENCH_FORMER, as in `backup`), where there is one. The
memory over time is drawn in `results/cut_memory.svg`. BENCH_KEYS: numbers of keys, rising, by
commas; smaller ones for a quick look.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.backup import VERB, former
from benchmarks.result import MIN_ROUNDS, RESULTS, write
from everlode.adapters.kafka import Record
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres_next import NextGeneration
from everlode.avro.codec import encode_state
from everlode.backup.verify import signed_manifest
from everlode.demo.charts import BOTTOM, HEIGHT, LEFT, WIDTH, Axes, path, rounded_up
from everlode.events.stamp import stamp_at
from everlode.projection.fold import Known, Prefix
from everlode.state.dispatch import evolve_fact
from everlode.topics.names import fact_topic, state_topic
from tests.support.world.backed import Backed
from tests.support.world.projecting import fact

KEYS = tuple(int(n) for n in os.environ.get("BENCH_KEYS", "1000000,3000000").split(","))
AT_ONCE = 5000
LOOK_S = 0.25
TOO_OLD = 20
"""Exit code of a backup that is whole: nothing is projected while others are measured."""
MIB = 1 << 20
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#8250df")


class Run(NamedTuple):
    """One backup."""

    seconds: float
    memory: tuple[tuple[float, float], ...]
    """(second, MiB resident)."""

    @property
    def most(self) -> float:
        """MiB."""
        return max(mib for _, mib in self.memory)


def states(first: int, last: int) -> Iterator[tuple[str, Known]]:
    """Tasks `first` to `last`, without the last."""
    template = evolve_fact(None, fact("tasks", "template", 1, 1), 0)
    assert template is not None
    began = stamp_at(time.time_ns() // 1_000_000)
    for number in range(first, last):
        key = f"task-{number:010}"
        yield key, Known(template._replace(key=key, seq=number + 1, stamp=began + number), 1, "")


def fill(region: Backed, first: int, last: int) -> None:
    """Rows, state records and a position, as if a projector had folded that many facts."""
    topic, writer = state_topic(1, "tasks"), Writer(region.bootstrap, "projector.eu.g1.0")
    writer.open()
    with closing(NextGeneration(region.conninfo, 1, "bench")) as db:
        db.create()
        found = list[tuple[str, Known]]()
        newest = 0
        for item in states(first, last):
            found.append(item)
            if len(found) == AT_ONCE or item[1].state.seq == last:  # type: ignore[union-attr]
                db.load("tasks", found)
                records = [
                    Record(topic, 0, key, encode_state(known.state), [])
                    for key, known in found
                    if known.state is not None
                ]
                writer.write(records)
                newest = max(known.state.stamp for _, known in found if known.state is not None)
                found.clear()
        db.place(0, {fact_topic("eu.1", "tasks"): Prefix(last, newest, 0)})
    writer.abandon()


def backed_up(region: Backed, python: Path, bucket: str) -> Run:
    """Back it up by a build, and look at its memory."""
    arguments = [
        *(str(python), str(VERB), str(region.folder / "stack"), "backup", "create"),
        *("--region", "eu", "--keys", str(region.keys.folder), "--bucket", bucket),
    ]
    log = region.folder / "backup.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        ready = process.stdout.readline()
        process.stdin.write("go\n")
        process.stdin.close()
        watched, began = psutil.Process(process.pid), time.monotonic()
        memory = []
        while process.poll() is None:
            memory.append((time.monotonic() - began, _resident(watched)))
            time.sleep(LOOK_S)
        done = process.stdout.read()
        process.stdout.close()
    last: dict[str, Any] = json.loads((done or "{}").splitlines()[-1])
    if ready != "ready\n" or last.get("code") not in (0, TOO_OLD):
        raise RuntimeError(f"backup: {last}\n{log.read_text()[-2000:]}")
    return Run(last["seconds"], tuple(memory))


def _resident(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / MIB
    except psutil.Error:
        return 0.0


def drawn(runs: Mapping[int, Run]) -> str:
    """Memory over time, a line a number of keys, as SVG."""
    top = rounded_up(max(run.most for run in runs.values()))
    axes = Axes(0.0, max(run.memory[-1][0] for run in runs.values()), top)
    lines = [
        f'<path d="{path(axes, run.memory, 9e9)}" fill="none" stroke="{COLOURS[n % 4]}"/>'
        f'<text x="{WIDTH - 260}" y="{HEIGHT - BOTTOM - 12 - 14 * n}" fill="{COLOURS[n % 4]}">'
        f"{keys:,} keys, at most {run.most:.0f} MiB</text>"
        for n, (keys, run) in enumerate(runs.items())
    ]
    marks = [
        *(f'<text x="4" y="{tick.at}">{tick.text}</text>' for tick in axes.values(" MiB")),
        *(f'<text x="{tick.at}" y="{HEIGHT - 4}">{tick.text}</text>' for tick in axes.seconds()),
        f'<path d="M{LEFT} 0V{HEIGHT - BOTTOM}H{WIDTH}" fill="none" stroke="#888"/>',
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="11">\n' + "\n".join([*marks, *lines]) + "\n</svg>\n"
    )


def measured(region: Backed, count: int) -> list[Run]:
    """Three rounds of ours; what was backed up is all that there is."""
    assert region.endpoints.s3 is not None
    bucket, found = region.endpoints.s3.buckets[0], []
    for _ in range(MIN_ROUNDS):
        found.append(backed_up(region, Path(sys.executable), bucket))
        manifest = signed_manifest(region.store, region.keys, "eu", "latest")
        assert manifest.compared is not None
        assert (manifest.compared.rows, manifest.compared.from_rows) == (count, 0)
        print(f"{count} keys: {found[-1].seconds:.1f} s, {found[-1].most:.0f} MiB", file=sys.stderr)
    return found


def main() -> None:
    """Fill, back up three times, fill further; so on."""
    runs: dict[int, list[Run]] = {}
    theirs = former()
    before: list[Run] = []
    with (
        tempfile.TemporaryDirectory(prefix="everlode-bench-") as folder,
        Backed(Path(folder)) as region,
    ):
        filled = 0
        for count in KEYS:
            fill(region, filled, count)
            filled = count
            if theirs is not None and count == KEYS[0]:  # first: it cannot read what ours notes
                before = [
                    backed_up(region, theirs[0].python, theirs[0].bucket) for _ in range(MIN_ROUNDS)
                ]
            runs[count] = measured(region, count)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "cut_memory.svg").write_text(
        drawn({count: found[-1] for count, found in runs.items()})
    )
    _report(runs, before, theirs[1] if theirs else "")


def _report(runs: Mapping[int, Sequence[Run]], before: Sequence[Run], commit: str) -> None:
    least, most = KEYS[0], KEYS[-1]
    write(
        "cut_memory", f"MiB resident, {most:,} keys in one partition",
        [run.most for run in runs[most]], f"{least:,} keys", [run.most for run in runs[least]],
        wanted_mib=300, seconds=round(min(run.seconds for run in runs[most]), 1),
        seconds_of_the_least=round(min(run.seconds for run in runs[least]), 1),
    )  # fmt: skip
    if before:
        write(
            "cut_memory.time", f"seconds, {least:,} keys in one partition",
            [run.seconds for run in runs[least]], f"the former build {commit}",
            [run.seconds for run in before], wanted=1.1,
            mib_former=round(max(run.most for run in before)),
        )  # fmt: skip


if __name__ == "__main__":
    main()
