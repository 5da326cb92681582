"""How much memory a backup takes, by how many keys there are in one partition.

A region with that many tasks, all in partition 0, is backed up and verified by a process of its
own, whose resident memory is looked at four times a second. `cut_memory`: the most at the greatest
number of keys, against the most at the least: it should be as much. `cut_memory.time`: seconds at
the least number, against a former build (BENCH_FORMER, as in `backup`), where there is one, in
turn; it has a control log of its own, since it does not know all that ours notes there. The
memory over time is drawn in `results/cut_memory.svg`. BENCH_KEYS: numbers of keys, rising, by
commas; smaller ones for a quick look.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks._resident import Run, drawn, watched
from benchmarks.backup import VERB, Build, former
from benchmarks.result import MIN_ROUNDS, RESULTS, write
from everlode.adapters.kafka_topics import ensure_topics
from everlode.backup.verify import signed_manifest
from everlode.topics import catalogue
from everlode.topics.names import CONTROL_CLUSTER
from tests.support.world.backed import Backed
from tests.support.world.filled import fill

KEYS = tuple(int(n) for n in os.environ.get("BENCH_KEYS", "1000000,3000000").split(","))
TOO_OLD = 20
"""Exit code of a backup that is whole: nothing is projected while others are measured."""


def backed_up(region: Backed, build: Build, stack: Path) -> Run:
    """Back it up by a build, and look at its memory."""
    arguments = [
        *(str(build.python), str(VERB), str(stack), "backup", "create"),
        *("--region", "eu", "--keys", str(region.keys.folder), "--bucket", build.bucket),
    ]
    return watched(arguments, region.folder / "backup.log", (0, TOO_OLD))


def with_own_control_log(region: Backed) -> Path:
    """A stack's folder whose control log is another one, in the region's cluster."""
    folder = region.folder / "former"
    folder.mkdir()
    specs = catalogue(region.endpoints.topology)
    ensure_topics(region.bootstrap, [spec for spec in specs if spec.cluster == CONTROL_CLUSTER])
    region.endpoints.model_copy(update={"control_bootstrap": region.bootstrap}).save(folder)
    return folder


def ours(region: Backed, count: int) -> Run:
    """One of ours; what was backed up is all that there is."""
    assert region.endpoints.s3 is not None
    build = Build("ours", Path(sys.executable), region.endpoints.s3.buckets[0])
    found = backed_up(region, build, region.folder / "stack")
    manifest = signed_manifest(region.store, region.keys, "eu", "latest")
    assert manifest.compared is not None
    assert (manifest.compared.rows, manifest.compared.from_rows) == (count, 0)
    return found


def told(count: int, build: str, run: Run) -> Run:
    """The same, and said on standard error."""
    print(f"{count} keys, {build}: {run.seconds:.1f} s, {run.most:.0f} MiB", file=sys.stderr)
    return run


def main() -> None:
    """Fill, back up three times, fill further; so on."""
    runs: dict[int, list[Run]] = {count: [] for count in KEYS}
    before: list[Run] = []
    theirs = former()
    with (
        tempfile.TemporaryDirectory(prefix="everlode-bench-") as folder,
        Backed(Path(folder)) as region,
    ):
        filled = 0
        apart = with_own_control_log(region) if theirs else Path()
        for count in KEYS:
            fill(region, filled, count)
            filled = count
            peer = None
            if theirs is not None and count == KEYS[0]:
                peer = partial(backed_up, region, theirs[0], apart)
            for number in range(MIN_ROUNDS):
                turn = [("ours", partial(ours, region, count), runs[count])]
                if peer is not None:
                    turn.append(("former", peer, before))
                for name, measure, found in turn[:: -1 if number % 2 else 1]:
                    found.append(told(count, name, measure()))
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
