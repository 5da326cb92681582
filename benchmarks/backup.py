"""How long a backup and a recovery take under the demo's load, against a former build.

Both back up the same region, in turn, while the demo's workload goes on in three regions; then, in
turn, its database and state topics are destroyed and each recovers it from its own newest backup.
`backup.time` is from the lease to the last announcement, everything verified; `backup.recovery`
from the plan to the switch. Processes are started and have imported everything before. The former
build is a checkout with its own `.venv`, named by BENCH_FORMER; without it nothing is measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._timed_verb import SCHEMAS
from benchmarks.result import MIN_ROUNDS, write
from everlode.adapters.kafka_admin import state_generations
from everlode.adapters.kafka_topics import delete_topics
from everlode.avro import schemas
from everlode.backup.keys import KeyRing
from everlode.demo.options import Options
from everlode.demo.run import Demo
from everlode.fleet.levels import await_projectors
from everlode.settings.endpoints import Endpoints
from everlode.telemetry.sink import to_stream
from everlode.topics import state_topics

FORMER, FORMER_NAME = "BENCH_FORMER", "former"
VERB = Path(__file__).with_name("_timed_verb.py")
SHARE = float(os.environ.get("BENCH_SHARE", "1"))
"""Of the demo's workload."""
SPEED = float(os.environ.get("BENCH_SPEED", "0.25"))
"""Its pace, so that there is work in all rounds: without it the benchmark fails."""
BEGIN_AT = 0.2
"""Share of the tasks that has ended before the first backup."""
WORK = "eu-proj-1"


class Build(NamedTuple):
    """One of the two."""

    name: str
    python: Path
    bucket: str


class Took(NamedTuple):
    """Seconds of one run, and of the processor."""

    seconds: float
    cpu_s: float


class Measured(Demo):
    """The demo, with other steps behind its work."""

    def __init__(self, root: Path, builds: tuple[Build, Build]) -> None:
        options = Options(None, 1, SPEED, SHARE, "mid-run", False, root)
        super().__init__(options, to_stream("", "text"))
        self._builds = builds
        self.backups: dict[str, list[Took]] = {b.name: [] for b in builds}
        self.recoveries: dict[str, list[Took]] = {b.name: [] for b in builds}
        self.records = 0

    def measure(self) -> None:
        """Up, work, backups in turn, recoveries in turn; everything is stopped at the end."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            endpoints = self._up()
            self._work(endpoints)
            self._start_actors()
            self._go_on("end")
            self._await_share(BEGIN_AT)
            keys = KeyRing(self.root / "keys")
            keys.create()
            for number in range(MIN_ROUNDS):
                for build in self._builds[:: -1 if number % 2 else 1]:
                    self.backups[build.name].append(self._timed(build, "backup", "create"))
            for number in range(MIN_ROUNDS):
                for build in self._builds[:: -1 if number % 2 else 1]:
                    self._destroy(endpoints)
                    self.recoveries[build.name].append(self._recovered(build, number))
                    self.fleet.start_projector("eu")
                    await_projectors(endpoints, 120, lambda: None)
        finally:
            self._end()

    def _timed(self, build: Build, *verb: str) -> Took:
        arguments = [
            *(str(build.python), str(VERB), str(self._plan.stack_dir), *verb, "--region", "eu"),
            *("--keys", str(self.root / "keys"), "--bucket", build.bucket),
        ]
        log = self.root / "logs" / f"{build.name}-{verb[0]}.log"
        env = taught(self.root) if build.name == FORMER_NAME else None
        with log.open("ab") as out:
            process = subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True,
                start_new_session=True, env=env,
            )  # fmt: skip
            assert process.stdout is not None
            ready = process.stdout.readline()
            done, _ = process.communicate("go\n", timeout=900)
        last: dict[str, Any] = json.loads((done or "{}").splitlines()[-1])
        if ready != "ready\n" or last.get("code") != 0:
            raise RuntimeError(f"{build.name}: {verb}: {last}\n{log.read_text()[-2000:]}")
        took = Took(last["seconds"], last["cpu_s"])
        ended, tasks = (sum(s[what] for s in self.statuses()) for what in ("ended", "tasks"))
        self._mark("bench", f"{build.name} {verb[0]}: {took.seconds:.1f} s, {took.cpu_s:.1f} s of"
                   f" the processor; {ended} of {tasks} tasks have ended")  # fmt: skip
        if ended >= tasks:
            raise RuntimeError("vacuous: no work is left beside it; lower BENCH_SPEED")
        return took

    def _recovered(self, build: Build, number: int) -> Took:
        staging = self.root / f"{build.name}-recovery-{number}"
        return self._timed(build, "recover", "run", "--staging", str(staging))

    def _destroy(self, endpoints: Endpoints) -> None:
        self._stack.wipe("eu/postgres")
        self.fleet.kill(WORK)
        bootstrap = endpoints.regions["eu"].kafka_bootstrap
        generations = state_generations(bootstrap)
        names = [s.name for g in generations for s in state_topics(self._topology, "eu", g)]
        delete_topics(bootstrap, names)
        self._stack.restart("eu/postgres")


def taught(folder: Path) -> dict[str, str]:
    """The environment of a former build that is to read what ours has written."""
    path = folder / "schemas.json"
    path.write_text(json.dumps([json.dumps(schemas.raw(name)) for name in schemas.names()]))
    return {**os.environ, SCHEMAS: str(path)}


def former() -> tuple[Build, str] | None:
    """The former build and its commit; None where there is none."""
    folder = os.environ.get(FORMER)
    if not folder:
        return None
    commit = subprocess.run(
        ["git", "-C", folder, "rev-parse", "--short", "HEAD"],
        stdout=subprocess.PIPE, check=True, text=True,
    ).stdout.strip()  # fmt: skip
    return Build(FORMER_NAME, Path(folder) / ".venv" / "bin" / "python", "everlode-b"), commit


def main() -> None:
    """Three rounds of each, the order turning."""
    found = former()
    if found is None:
        print(f"backup: not measured, {FORMER} names no former build", file=sys.stderr)
        return
    theirs, commit = found
    ours = Build("ours", Path(sys.executable), "everlode-a")
    with tempfile.TemporaryDirectory(prefix="everlode-bench-") as folder:
        run = Measured(Path(folder) / "run", (theirs, ours))
        run.measure()
    for name, took, wanted in (
        ("backup.time", run.backups, 1 / 6),
        ("backup.recovery", run.recoveries, 1 / 2),
    ):
        mine, other = took["ours"], took["former"]
        write(
            name, "seconds", [t.seconds for t in mine],
            f"the former build {commit}, same region, same load", [t.seconds for t in other],
            wanted=round(wanted, 3),
            processor_s=round(statistics.median(t.cpu_s for t in mine), 2),
            processor_s_former=round(statistics.median(t.cpu_s for t in other), 2),
        )  # fmt: skip


if __name__ == "__main__":
    main()
