"""How much of its work a recovery does again that was killed, once it is run again.

A region with many tasks and facts behind its backup is recovered: three times undisturbed, then
killed after each of some shares of the time that this took, and run again. Work is counted in
records, by the parts and not by the product: what the store was asked for, rows put into the new
generation's tables, records on its state topics. Done again is what the killed and the resumed run
did together beyond an undisturbed one; the figure is its share of what was done when killed, in
percent, a round a kill. Against: the limit. `seconds again`: the same of the time, in which also
connecting and looking at what is there are, at the median; BENCH_STATES tasks in all (200,000).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.backup import VERB
from benchmarks.result import MIN_ROUNDS, write
from everlode.adapters.kafka import Reader
from everlode.adapters.kafka_admin import state_generations
from everlode.adapters.postgres_read import Generation
from everlode.backup.manifest import Manifest
from everlode.projection.tables import COMPONENTS
from everlode.topics import state_topics
from tests.support.stores.faulty_proxy import FaultyProxy
from tests.support.world.backed import TOPOLOGY, Backed, story
from tests.support.world.filled import fill

STATES = int(os.environ.get("BENCH_STATES", "200000"))
SHARES = (0.3, 0.5, 0.7, 0.9)
WANTED = 5.0
STORY_TASKS = 40
TOLD = 25
"""How often the story behind the backup is told: a tail of facts."""
_WRITTEN = (
    "select coalesce(sum(n_tup_ins + n_tup_upd), 0) from pg_stat_user_tables"
    " where schemaname = %s and relname = any(%s)"
)
_OTHERS = (
    "select count(*) from pg_stat_activity where backend_type = 'client backend'"
    " and pid <> pg_backend_pid()"
)


class Work(NamedTuple):
    """Records that a generation's recovery has moved so far."""

    fetched: int
    rows: int
    published: int

    @property
    def all(self) -> int:
        """Of all kinds."""
        return sum(self)


class Round(NamedTuple):
    """One recovery that was killed and run again."""

    share: float
    """Of an undisturbed one's time, when it was killed."""
    done: Work
    in_all: Work
    seconds: float
    """Of both runs."""
    until: float
    """Seconds until it was killed."""

    def again(self, whole: Work) -> float:
        """Percent of what was done when it was killed."""
        return 100 * (self.in_all.all - whole.all) / self.done.all


class Measured:
    """Recoveries of one region, of one backup."""

    def __init__(self, region: Backed, proxy: FaultyProxy, manifest: Manifest) -> None:
        self._region, self._proxy = region, proxy
        self._records = {entry.key: entry.records for entry in manifest.objects}
        assert region.endpoints.s3 is not None
        s3 = region.endpoints.s3.model_copy(update={"endpoint": proxy.endpoint})
        self._stack = region.folder / "behind-the-proxy"
        self._stack.mkdir()
        region.endpoints.model_copy(update={"s3": s3}).save(self._stack)

    def whole(self, number: int) -> tuple[float, Work]:
        """Seconds and work of an undisturbed one."""
        self._proxy.asked.clear()
        return self._run(f"whole-{number}", None), self._work()

    def killed(self, share: float, seconds: float) -> Round:
        """Kill one after that share of these seconds, and run it again."""
        self._proxy.asked.clear()
        name = f"killed-{share}"
        until = self._run(name, share * seconds)
        done = self._work()
        if not done.all:
            raise RuntimeError(f"killed after {until:.1f} s, before it had done anything")
        return Round(share, done, *self._rest(name, until), until)

    def _rest(self, name: str, until: float) -> tuple[Work, float]:
        took = self._run(name, None)
        return self._work(), until + took

    def _run(self, name: str, kill_after: float | None) -> float:
        """Seconds until it ended, or was killed."""
        region = self._region
        arguments = [
            *(sys.executable, str(VERB), str(self._stack), "recover", "run", "--region", "eu"),
            *("--keys", str(region.keys.folder), "--staging", str(region.folder / name)),
        ]
        log = region.folder / "recover.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True
            )
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            process.stdin.write("go\n")
            process.stdin.flush()
            if kill_after is not None:
                time.sleep(kill_after)
                process.kill()
            done, _ = process.communicate(timeout=300)
        if kill_after is not None and process.returncode < 0:
            return kill_after
        last: dict[str, Any] = json.loads((done or "{}").splitlines()[-1])
        if kill_after is not None or last.get("code") != 0:
            raise RuntimeError(f"recovery: {last}\n{log.read_text()[-2000:]}")
        return float(last["seconds"])

    def _work(self) -> Work:
        """Of the newest generation, once nobody works on it any more."""
        bootstrap = self._region.bootstrap
        number = max(state_generations(bootstrap))
        specs = state_topics(TOPOLOGY, "eu", number)
        with closing(Reader(bootstrap, "bench")) as reader:
            places = [(spec.name, p) for spec in specs for p in range(spec.partitions)]
            published = sum(reader.ends(places).values())
        with closing(Generation(self._region.conninfo, number)) as db:
            while db.query(_OTHERS)[0][0]:  # a killed run's connections end by themselves
                time.sleep(0.2)
            ((rows,),) = db.query(_WRITTEN, (f"g{number}", list(COMPONENTS)))
        gets = (one.target.partition("?")[0] for one in self._proxy.asked if one.method == "GET")
        fetched = sum(
            count for got in gets for key, count in self._records.items() if got.endswith(key)
        )
        return Work(fetched, int(rows), published)


def _filled(region: Backed) -> Manifest:
    """Tasks, a backup, and facts behind it."""
    each = STATES // TOPOLOGY.partitions
    for partition in range(TOPOLOGY.partitions):
        fill(region, 0, each, partition)
    region.begin_anew("tasks", dict.fromkeys(range(TOPOLOGY.partitions), each))
    told = story(seed=8, tasks=STORY_TASKS)
    region.write(told)
    region.project()
    manifest = region.create()
    for number in range(TOLD):
        region.write([(c, region.renamed(fact, f"tail-{number}")) for c, fact in told])
    return manifest


def main() -> None:
    """Three undisturbed ones, then a killed one a share."""
    with (
        tempfile.TemporaryDirectory(prefix="everlode-bench-") as folder,
        Backed(Path(folder)) as region,
    ):
        manifest = _filled(region)
        assert region.endpoints.s3 is not None
        with FaultyProxy(region.endpoints.s3.endpoint) as proxy:
            measured = Measured(region, proxy, manifest)
            even = [measured.whole(number) for number in range(MIN_ROUNDS)]
            seconds = statistics.median(took for took, _ in even)
            whole = even[-1][1]
            print(f"undisturbed: {seconds:.1f} s, {whole}", file=sys.stderr)
            rounds = []
            for share in SHARES:
                rounds.append(measured.killed(share, seconds))
                print(f"{rounds[-1]}: {rounds[-1].again(whole):.2f} %", file=sys.stderr)
    write(
        "resume", "% of the work done when killed that is done again",
        [found.again(whole) for found in rounds], "the limit", [WANTED] * len(rounds),
        wanted=WANTED, states=STATES, records=whole.all, seconds=round(seconds, 1),
        seconds_again=round(
            statistics.median(100 * (r.seconds - seconds) / r.until for r in rounds), 1
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
