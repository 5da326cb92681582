"""The demo, start to finish: seven steps on real parts, to a report.

up → work → failure → backup → disaster → recovery → proof. Whatever happens, every process that
was started is stopped. Shell.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from everlode.adapters.kafka_follower import ControlFollower
from everlode.adapters.kafka_topics import delete_topics
from everlode.adapters.s3 import S3Store
from everlode.backup.keys import KeyRing
from everlode.backup.manifest import Manifest
from everlode.backup.operation import back_up
from everlode.demo.collect import Ran, collect
from everlode.demo.kills import Kill, await_failovers, primaries
from everlode.demo.only_one import FOLDER, STACK, hold, note_fork_server, only_one, remove_killed
from everlode.demo.options import Options
from everlode.demo.watched import PAGE, serve_page
from everlode.demo.work import Work, now_ms
from everlode.errors import ConfigError, Unavailable
from everlode.fleet.fleet import Fleet
from everlode.fleet.lag import Lag
from everlode.fleet.levels import await_leaders, await_level, await_projectors
from everlode.fleet.meter import proportional
from everlode.proof.floors import DISASTER, SIGKILL
from everlode.proof.prove import prove
from everlode.recovery.operation import recover
from everlode.recovery.planner import RecoveryResult
from everlode.recovery.request import RecoveryRequest
from everlode.settings.endpoints import Endpoints
from everlode.stack import NativeStack, StackProvider
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink, silent
from everlode.topics import state_topics
from everlode.workload.file import PlanFile
from everlode.workload.plan import LASTING_MS

FELT = 0.05
"""Share of the tasks that may end during a failover, so that clients and miners feel it."""
KNOWN_S = 2.0
"""By then the actors have the clock's new knots, and have written which tasks outlive them."""
LASTING_S = 20.0
"""A task that outlives a failover is waited for this long."""


class Outcome(NamedTuple):
    """What came of it."""

    report: dict[str, Any]
    root: Path


class Demo:
    """One run. `report` gets what its parts report, and a note about each step."""

    def __init__(self, options: Options, report: Sink = silent) -> None:
        options.check()
        self._options = options
        self._report = report
        name = f"{FOLDER}{secrets.token_hex(4)}"
        self.root = options.root or Path(tempfile.gettempdir()) / name
        self._plan = PlanFile(
            root=self.root, stack_dir=self.root / STACK, trace=options.trace,
            share=options.share, seed=options.seed, regions=("eu", "us", "ap"),
        )  # fmt: skip
        self._topology = self._plan.topology()
        self._stack: StackProvider = NativeStack(self._topology, self._plan.stack_dir)
        self._workload = self._plan.workload()
        self._pacing = Work(self._workload, options.speed, self._plan.clock_file)
        self._fleet: Fleet | None = None
        self._control: ControlFollower | None = None
        self.kills: list[Kill] = []
        """The nodes that were killed, one of each kind; the first is the task manager."""
        self.lasting = 0
        """Tasks that it managed then, and that went on for long enough to be migrated."""
        self.timeline: list[dict[str, Any]] = []
        self.times: dict[str, float] = {"planned_work_s": self._pacing.planned_s}
        self.windows: dict[str, tuple[int, int]] = {}
        """Faults: begin and end, milliseconds on the wall."""
        self._disaster_ms = 0
        self._began = time.monotonic()
        self._lag = Lag()
        self._stop_measuring = threading.Event()
        self._proved = False

    def _mark(self, step: str, text: str) -> None:
        self.timeline.append(
            {"at_s": round(time.monotonic() - self._began, 2), "step": step, "text": text}
        )
        self._report(Note(step, text))

    @property
    def fleet(self) -> Fleet:
        """The processes beside the stack."""
        if self._fleet is None:
            raise Unavailable("the demo has not started its processes")
        return self._fleet

    def _primaries(self) -> list[Kill]:
        """The primary of each kind in eu, as the control log says."""
        if self._control is None:
            raise Unavailable("the demo does not follow the control log yet")
        return primaries(self._control.state, "eu")

    def _kill(self) -> None:
        """Kill the primary of each kind at once, with tasks under way that outlive the failover.

        Those are behind the limit, which is not raised again before each failover has ended.
        """
        if self.kills:
            return
        if "actors_at_s" in self.times:
            self._go_on(more=FELT)
            time.sleep(KNOWN_S)
            deadline = time.monotonic() + LASTING_S
            while not self._lasting() and time.monotonic() < deadline:
                time.sleep(0.25)
        self.lasting = self._lasting()
        self.kills = self._primaries()
        for kill in self.kills:
            self.fleet.kill(kill.node)
        at_ms = now_ms()
        self.windows[SIGKILL] = (at_ms, at_ms + 30_000)
        killed = ", ".join(f"{k.node} ({k.service.node})" for k in self.kills)
        self._mark("failure", f"SIGKILL of eu's primaries: {killed}; with {self.lasting} tasks "
                   "that outlive a failover")  # fmt: skip

    def _go_on(self, step: str = "", more: float = 0.0) -> None:
        """Let the work go on to the step's limit, or to a little more than now."""
        if step and self.kills:
            await_failovers(Endpoints.load(self._plan.stack_dir), self.kills, LASTING_MS / 1000)
        self._pacing.go_on(step, more)

    def _lasting(self) -> int:
        """Tasks that eu's task manager manages and that are under way for long enough."""
        manager = self._primaries()[0].node
        return sum(s.get("lasting", {}).get(manager, 0) for s in self.statuses())

    # -- the whole ---------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Run all steps. Raises: Locked: another demo runs. EverlodeError of the failing step."""
        with only_one():
            remove_killed()
            self.root.mkdir(mode=0o700, parents=True, exist_ok=self._options.root is not None)
            with hold(self.root):
                try:
                    return self._run()
                finally:
                    self._end()

    def _run(self) -> Outcome:
        endpoints = self._up()
        self._work(endpoints)
        if self._options.kill_at == "before-first-assignment":
            self._kill()
        self._start_actors()
        if self._options.kill_at == "mid-run":
            self._await_share(0.35)
            self._await_share(0.5, lambda: self._lasting() > 0)
            self._kill()
        self._await_share(0.55)
        manifest = self._backup(endpoints)
        self._await_share(0.72)
        self._disaster(endpoints)
        recovery = self._recover(endpoints)
        self._await_share(1.0)
        report = self._prove(endpoints, manifest, recovery)
        self._proved = not report["failures"]
        return Outcome(report, self.root)

    def _end(self) -> None:
        self._stop_measuring.set()
        if self._control is not None:
            self._control.close()
        if self._fleet is not None:
            self._fleet.stop([PAGE])
            self._fleet.end()
        self._stack.down(at_once=not self._options.keep)
        if not self._options.keep:  # what went wrong is looked for in the logs
            shutil.rmtree(self.root if self._proved else self._plan.stack_dir, ignore_errors=True)

    # -- 1. up -------------------------------------------------------------------------------

    def _up(self) -> Endpoints:
        note_fork_server(self.root)
        self._fleet = Fleet(self.root / "logs", self._environment())
        serve_page(self.fleet, self._report)
        self._mark("up", f"workload: {self._workload.source}, {len(self._workload.tasks)} tasks, "
                   f"{len(self._workload.miners)} miners")  # fmt: skip
        endpoints = self._stack.up(self._report)
        self.times["stack_s"] = self._stack.timings_s["total"]
        s3 = endpoints.s3
        self._mark("up", f"stack ready in {self.times['stack_s']:.1f} s; S3 is "
                   f"{s3.server if s3 else 'none'} ({s3.reason if s3 else ''})")  # fmt: skip
        return endpoints

    # -- 2. work -----------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        return {
            "EVERLODE_STACK_DIR": str(self._plan.stack_dir),
            "EVERLODE_CLOCK_FILE": str(self._plan.clock_file),
            "EVERLODE_PAYOUT_DIR": str(self.root / "payouts"),
            "EVERLODE_LEASE_S": str(3650 * 86_400),
        }

    def _work(self, endpoints: Endpoints) -> None:
        self._plan.save(self.root / "plan.json")
        self._pacing.wait()
        threading.Thread(target=self._measure, name="measure", daemon=True).start()
        began = time.monotonic()
        for region in self._topology.regions:
            self.fleet.start_region(region)
        self.fleet.start_spare("eu")
        self._control = ControlFollower(endpoints.control_bootstrap or "").start()
        await_leaders(self._control, self._topology, 120, self._check_alive)
        await_projectors(endpoints, 120, self._check_alive)
        self.times["nodes_s"] = time.monotonic() - began
        self._mark("work", f"all scopes have primaries after {self.times['nodes_s']:.1f} s")

    def _measure(self) -> None:
        turn = 0
        stack: dict[int, str] = {}
        endpoints = Endpoints.load(self._plan.stack_dir)
        while not self._stop_measuring.wait(2.0):
            if dear := turn % 4 == 0:
                stack = {p.pid: p.kind for p in self._stack.processes() if p.pid is not None}
            turn += 1
            kinds = {os.getpid(): "demo", **stack, **self.fleet.kinds()}
            self.fleet.meter.measure(kinds, size=proportional if dear else None)
            self._lag.measure(endpoints)

    def _start_actors(self) -> None:
        for region in self._topology.regions:
            self.fleet.start(
                f"actors-{region}", "actors", "everlode.workload.actors", region,
                str(self.root / "plan.json"),
            )  # fmt: skip
        deadline = time.monotonic() + 90
        while not all(s.get("registered") for s in self.statuses()):
            self._check_alive()
            if time.monotonic() > deadline:
                raise Unavailable("miners are not registered after 90 s", hint="see the logs")
            time.sleep(0.1)
        self._pacing.begin()
        self.times["actors_at_s"] = time.monotonic() - self._began
        self._mark("work", "clients, miners and reviewers begin")

    def statuses(self) -> list[dict[str, Any]]:
        """The actors' last words, a region each."""
        found = []
        for region in self._topology.regions:
            try:
                found.append(json.loads(self._plan.status(region).read_text()))
            except (OSError, ValueError):
                found.append({"tasks": 1, "ended": 0})
        return found

    def _await_share(self, share: float, or_until: Callable[[], bool] = lambda: False) -> None:
        """Wait until this share of the tasks has ended; at 1 until the actors have finished."""
        wanted = self.times["planned_work_s"] * 4 + 180
        deadline = time.monotonic() + wanted
        told = 0.0
        while True:
            statuses = self.statuses()
            ended = sum(s["ended"] for s in statuses)
            total = sum(s["tasks"] for s in statuses)
            finished = all(s.get("finished") for s in statuses)
            if finished or (share < 1 and total > 3 and ended >= share * total) or or_until():
                break
            self._check_alive()
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the work stands still: {ended} of {total} tasks ended: {statuses}",
                    hint=f"logs are in {self.root / 'logs'}",
                )
            if time.monotonic() - told > 5:
                told = time.monotonic()
                waiting = sum(s.get("waiting", 0) for s in statuses)
                about = f"{ended} of {total} tasks ended, {waiting} commands wait"
                self._report(Note("work", about))
            time.sleep(0.25)

    def _check_alive(self) -> None:
        """Raises: Unavailable: a process has ended that was neither killed by us nor finished."""
        allowed = {
            f"actors-{region}"
            for region, status in zip(self._topology.regions, self.statuses(), strict=True)
            if status.get("finished")
        }
        allowed.update(kill.node for kill in self.kills)
        dead = [n for n in self.fleet.dead() if n not in allowed]
        if dead:
            log = self.root / "logs" / f"{dead[0]}.log"
            tail = "\n".join(log.read_text().splitlines()[-8:])
            raise Unavailable(f"{dead[0]} has ended by itself:\n{tail}", hint=f"see {log}")

    # -- 4. backup ---------------------------------------------------------------------------

    def _store(self, endpoints: Endpoints) -> S3Store:
        if endpoints.s3 is None:
            raise ConfigError("the stack has no object store")
        return S3Store(endpoints.s3.endpoint, endpoints.s3.keys(), endpoints.s3.buckets[0])

    def _backup(self, endpoints: Endpoints) -> Manifest:
        began = time.monotonic()
        self._go_on("backup")
        keys = KeyRing(self.root / "keys")
        keys.create()

        def progress(line: str) -> None:
            if self._options.kill_at == "during-backup":
                self._kill()
            self._report(Note("backup", line))

        manifest = back_up(
            "eu", endpoints, self._topology, self._store(endpoints), keys,
            report=lambda entry: progress(entry.text),
        )  # fmt: skip
        self.times["backup_s"] = time.monotonic() - began
        records = sum(o.records for o in manifest.objects)
        took, size = self.times["backup_s"], manifest.total_backup_size
        self._mark("backup", f"{manifest.backup_id}: {records} records, {size} bytes, {took:.1f} s")
        return manifest

    # -- 5. disaster, 6. recovery ------------------------------------------------------------

    def _disaster(self, endpoints: Endpoints) -> None:
        self._go_on("disaster")
        self._disaster_ms = now_ms()
        self._stack.wipe("eu/postgres")
        self.fleet.kill("eu-proj-1")
        names = [s.name for s in state_topics(self._topology, "eu", 1)]
        delete_topics(endpoints.regions["eu"].kafka_bootstrap, names)
        self._mark("disaster", "eu: PostgreSQL's data and the state topics are destroyed")

    def _recover(self, endpoints: Endpoints) -> RecoveryResult:
        began = time.monotonic()
        self._stack.restart("eu/postgres")
        plan = RecoveryRequest(
            plan_name="demo", disaster_type="database-corruption", target_region="eu"
        )

        def progress(line: str) -> None:
            if self._options.kill_at == "during-recovery":
                self._kill()
            self._report(Note("recovery", line))

        keys = KeyRing(self.root / "keys")
        result = recover(
            plan, endpoints, self._topology, self._store(endpoints), keys,
            self.root / "recovery", report=lambda entry: progress(entry.text),
        )  # fmt: skip
        self.fleet.start_projector("eu")
        self.times["recovery_s"] = time.monotonic() - began
        at_ms = now_ms()
        self.windows[DISASTER] = (self._disaster_ms, at_ms)
        verdict = "held" if result.held else f"generation {result.generation} is current"
        self._mark("recovery", f"{verdict} after {self.times['recovery_s']:.1f} s")
        self._go_on("end")
        return result

    # -- 7. proof ----------------------------------------------------------------------------

    def _prove(
        self, endpoints: Endpoints, manifest: Manifest, recovery: RecoveryResult
    ) -> dict[str, Any]:
        self.times["work_s"] = time.monotonic() - self._began - self.times["actors_at_s"]
        self._mark("proof", "the work has ended; waiting until every projection is level")
        began = time.monotonic()
        await_failovers(endpoints, self.kills, LASTING_MS / 1000)
        await_level(endpoints, self._topology, 120, self.fleet.stop)
        journals = [self._plan.journal(r) for r in self._topology.regions]
        payouts = sorted((self.root / "payouts").glob("*.jsonl"))
        proof = prove(endpoints, self._topology, journals, payouts, self._report)
        self.times["proof_s"] = time.monotonic() - began
        self.times["total_s"] = time.monotonic() - self._began
        verdict = f"{len(proof.differences)} differences, {len(proof.lost)} lost events"
        self._mark("proof", f"{proof.compared_keys} keys compared: {verdict}")
        return collect(
            Ran(
                self._options, endpoints, self._workload, journals, self.statuses(), self.kills,
                self.lasting, self.windows, self.fleet.meter, self._lag, self.times, self.timeline,
                manifest, recovery, proof,
            )
        )  # fmt: skip
