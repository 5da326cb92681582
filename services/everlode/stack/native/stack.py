"""The native stack provider: a whole three-region stack as processes of this machine.

    stack = NativeStack(data_dir=folder)
    endpoints = stack.up(report)
    ...
    stack.kill("eu/postgres"); stack.restart("eu/postgres")
    stack.down()

Invariants: everything listens on 127.0.0.1 only; every process is stopped by `down`, by an error in
`up`, and by our own death, unless made to outlive us: then `adopt` takes it over; data survive
`down` and the next `up` finds them. Shell.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from everlode.adapters.kafka_admin import await_brokers
from everlode.errors import NotFound, Precondition, Unavailable
from everlode.settings.endpoints import Endpoints
from everlode.stack.book import BOOK
from everlode.stack.healing import PARTS
from everlode.stack.native.cache import require_room
from everlode.stack.native.layout import Layout
from everlode.stack.native.lock import (
    Recorded,
    StackLock,
    end,
    end_orphans,
    read_record,
    write_record,
)
from everlode.stack.native.parts import Parts, provision
from everlode.stack.native.process import Command, Process
from everlode.stack.native.recipes import Recipes
from everlode.stack.native.start import Limits, start_all
from everlode.stack.provider import ProcessStatus, StackProvider
from everlode.telemetry.entries import StackReady
from everlode.telemetry.sink import Sink, silent
from everlode.topics import Topology


class NativeStack(StackProvider):
    """Brokers, mirrors, databases and an object store of a topology, as child processes.

    Names of the processes: `<region>/kafka`, `<region>/postgres`, `<region>/mirror`,
    `control/1` …, `s3`. Not for use from several threads, but for `kill`, `pause`, `resume`.
    """

    def __init__(
        self,
        topology: Topology | None = None,
        data_dir: Path | str = "everlode-stack",
        *,
        mirrors: bool = True,
        control_nodes: int = 3,
        s3: str | None = "auto",
        limits: Limits | None = None,
        outlives: bool = False,
    ) -> None:
        """`s3`: auto (as EVERLODE_S3 says), minio, rclone, or None for no object store.

        `control_nodes`: 0 for none; else at least the topology's `control_replication`.
        `outlives`: a death of ours leaves its processes running.
        """
        self.topology = topology or Topology()
        self.data_dir = Path(data_dir).absolute()
        self.limits = limits or Limits()
        self._s3 = s3
        self._outlives = outlives
        self.layout = Layout(
            self.topology,
            self.data_dir,
            mirrors=mirrors and len(self.topology.regions) > 1,
            control_nodes=control_nodes,
            s3=s3 is not None,
        )
        self._lock = StackLock(self.data_dir)
        self._owner = os.getpid()
        self._processes: dict[str, Process] = {}
        self._leaving: set[str] = set()
        self._guard = threading.RLock()
        self.parts: Parts | None = None
        self.endpoints: Endpoints | None = None
        self.timings_s: dict[str, float] = {}
        """Seconds from the start of `up` to each process being ready, and `total`."""

    @classmethod
    def small(
        cls, data_dir: Path | str, region: str = "eu", *, control: bool = True
    ) -> NativeStack:
        """One broker, one PostgreSQL, at most one control node: for tests, up in a few seconds."""
        topology = Topology(regions=(region,), control_replication=1, control_min_insync=1)
        nodes = 1 if control else 0
        return cls(topology, data_dir, mirrors=False, control_nodes=nodes, s3=None)

    def up(self, report: Sink = silent) -> Endpoints:
        """Start everything, create and check all topics; returns once all of it serves.

        `report` gets an entry a step, from several threads. Raises: Locked: a stack runs in this
        folder. ConfigError: a fixed port is in use; the folder's topics differ from the catalogue.
        Unavailable: a part cannot be had, died (with the tail of its log) or was not ready in
        time; no room. After an error nothing of it runs.
        """
        began = time.monotonic()
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as exc:
            raise Unavailable(
                f"{self.data_dir} cannot be made: {exc.strerror}", hint="another folder with --dir"
            ) from exc
        self._take()
        try:
            self._check_room()
            end_orphans(self.data_dir)
            self._provide(report)
            self._check_room()
            if not self._outlives:
                atexit.register(self.down)
            self.endpoints = start_all(
                self._recipes(), self._add, self.limits, report, self.timings_s
            )
            self.endpoints.save(self.data_dir)
        except BaseException:
            self.down()
            raise
        self.timings_s["total"] = time.monotonic() - began
        report(StackReady(self.timings_s["total"]))
        return self.endpoints

    def adopt(self, others: Sequence[Command] = (), report: Sink = silent) -> Endpoints:
        """Take over what a stack that has lost its holder left running, `others` beside its parts.

        What has ended, or never ran, counts as ended: `restart` starts it. Of others that run and
        are not asked for any more the end is waited for. Raises: Locked. Precondition: there is
        nothing to take over, or it is not of this layout. Unavailable: a part cannot be had.
        """
        self._take()
        try:
            left = {p.name: p for p in read_record(self.data_dir) if p.alive}
            self._provide(report)
            recipes = self._recipes()
            parts = [recipes.command(name) for name in self.layout.names]
            known = {command.name for command in (*parts, *others)}
            foreign = [p for p in left.values() if p.name not in known and p.kind in PARTS]
            if not left or foreign or not recipes.keeps(self.limits.fixed_ports):
                raise Precondition("nothing of this stack runs that could be taken over")
            for command in (*parts, *others):
                process = Process(self._lasting(command))
                process.adopt(left.get(command.name))
                self._processes[command.name] = process
            end([p for p in left.values() if p.name not in known])
            self._recorded()
        except BaseException:
            self._processes.clear()
            self._lock.release()
            raise
        self.endpoints = recipes.endpoints()
        return self.endpoints

    def run(self, command: Command) -> None:
        """Start a process beside the parts; it is stopped before them. Does not wait."""
        self._add(Process(command))

    def kept(self) -> dict[str, Process]:
        """All that were started and are to run on, by name."""
        with self._guard:
            return {n: p for n, p in self._processes.items() if n not in self._leaving}

    def leaving(self) -> dict[str, Process]:
        """What is to end and has not been let go, by name."""
        with self._guard:
            return {n: self._processes[n] for n in self._leaving}

    def leave(self, name: str) -> None:
        """From now on it is not kept any more; who says so ends it. Raises: NotFound."""
        with self._guard:
            self._leaving.add(self._named(name).name)

    def let_go(self, name: str) -> None:
        """Forget one that was to leave and has ended."""
        with self._guard:
            self._leaving.discard(name)
            self._processes.pop(name, None)
            self._recorded()

    def down(self, *, at_once: bool = False) -> None:
        """Stop everything and wait for it; data stay. Idempotent; a fork of ours does nothing.

        `at_once`: by SIGKILL, for who will not need the data; a database still ends by itself,
        since its shared memory would stay on the machine.
        """
        if os.getpid() != self._owner:
            return
        with self._guard:
            beside = {p.command.kind for p in self._processes.values()} - PARTS
            for group in (beside, {"mirror"}, PARTS - {"mirror"}):
                members = [p for p in self._processes.values() if p.command.kind in group]
                for process in members:
                    killed = at_once and process.command.kind != "postgres"
                    process.kill9() if killed else process.terminate()
                for process in members:
                    process.stop()
            if self._processes:
                write_record(self.data_dir, [])
                (self.data_dir / BOOK).unlink(missing_ok=True)
                for name in self.layout.names:
                    shutil.rmtree(self.layout.scratch(name), ignore_errors=True)
            self._processes.clear()
            self._leaving.clear()
            self._lock.release()
        with contextlib.suppress(Exception):
            atexit.unregister(self.down)

    def processes(self) -> list[ProcessStatus]:
        """All processes that were started, by name."""
        return [
            ProcessStatus(p.name, p.command.kind, p.pid, p.exit_status, p.resident_bytes())
            for _, p in sorted(self._processes.items())
        ]

    def resident_bytes(self) -> dict[str, int]:
        """Memory by kind: kafka, control, mirror, postgres, s3."""
        total: Counter[str] = Counter()
        for status in self.processes():
            total[status.kind] += status.resident_bytes
        return dict(total)

    def kill(self, name: str) -> None:
        """SIGKILL a process and reap it. Raises: NotFound."""
        self._named(name).kill9()

    def pause(self, name: str) -> None:
        """SIGSTOP. Raises: NotFound."""
        self._named(name).pause()

    def resume(self, name: str) -> None:
        """SIGCONT after `pause`. Raises: NotFound."""
        self._named(name).resume()

    def restart(self, name: str, aborted: threading.Event | None = None) -> None:
        """Start a process that was stopped or killed and wait until it serves.

        Its data are what it left; after `wipe` they are made anew, empty: a wiped broker has no
        topics (`adapters.kafka_topics.ensure_topics`). A mirror's port answers before its flows
        run: `start.await_flows` waits for these. `aborted` ends the wait early. Raises: NotFound;
        Unavailable.
        """
        process = self._named(name)
        process.stop()
        if process.command.kind in PARTS:
            self._recipes().prepare(name)
        self._again(process, aborted)

    def stop(self, name: str) -> None:
        """Stop one process in good order. Raises: NotFound."""
        self._named(name).stop()

    def wipe(self, name: str) -> None:
        """SIGKILL a process and destroy its data, for good. Raises: NotFound; Precondition."""
        process = self._named(name)
        data = self.layout.data(name)
        process.kill9()
        if data is not None:
            shutil.rmtree(data)

    def set_mirror_sources(self, target: str, sources: tuple[str, ...]) -> None:
        """Restart the mirror next to `target` so that it reads only from `sources`.

        Returns when the old process is reaped and the new one serves. Raises: NotFound.
        """
        process = self._named(f"{target}/mirror")
        process.stop()
        self._recipes().write_mirror(target, sources)
        self._again(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    def _again(self, process: Process, aborted: threading.Event | None = None) -> None:
        """Start and wait. A mirror's port answers long before it copies, so ask Kafka too."""
        process.start()
        self._recorded()
        deadline = time.monotonic() + self.limits.part_s
        process.await_ready(deadline, aborted)
        region, _, part = process.name.partition("/")
        if part == "kafka":
            gave_up = aborted or threading.Event()
            await_brokers(self._recipes().bootstrap(region), 1, deadline, gave_up.is_set)

    def _take(self) -> None:
        self._owner = os.getpid()
        self._lock.acquire()

    def _provide(self, report: Sink) -> None:
        wanted = None if self._s3 == "auto" else self._s3
        self.parts = provision(report, s3=wanted, with_s3=self.layout.s3)

    def _lasting(self, command: Command) -> Command:
        return replace(command, orphan_signal=None) if self._outlives else command

    def _recipes(self) -> Recipes:
        if self.parts is None:
            raise Precondition("the stack is not up")
        return Recipes(self.layout, self.parts, self.limits.fixed_ports, self.limits.aot)

    def _named(self, name: str) -> Process:
        try:
            return self._processes[name]
        except KeyError:
            known = ", ".join(sorted(self._processes)) or "none: the stack is not up"
            raise NotFound(f"no process {name}", hint=f"there are: {known}") from None

    def _add(self, process: Process) -> None:
        process.command = self._lasting(process.command)
        with self._guard:
            self._processes[process.name] = process
            process.start()
            self._recorded()

    def _recorded(self) -> None:
        with self._guard:
            write_record(self.data_dir, list(_records(self._processes)))

    def _check_room(self) -> None:
        require_room(self.data_dir, self.limits.min_free_bytes, "a stack")


def _records(processes: dict[str, Process]) -> Iterator[Recorded]:
    for process in processes.values():
        pid = process.pid
        if pid is not None:
            with contextlib.suppress(psutil.Error):
                created = psutil.Process(pid).create_time()
                yield Recorded(process.name, process.command.kind, pid, created, process.made_of)
