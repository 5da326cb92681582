"""The processes of the demo beside the stack: nodes, coordinators, detectors, projectors, actors.

All are ours and die with us (see `forked`). Shell.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from everlode.events.services import BY_FACTS, Service
from everlode.fleet.forked import Forked
from everlode.fleet.meter import Meter

NODES = {"tasks": 3, "miners": 2, "rewards": 2}
"""Nodes of a region for each service; validators have a kind besides."""
STOP_S = 8.0
VALIDATORS = ((1, "automatic"), (2, "peer-review"), (3, "expert"))
SPARE = (4, "automatic")


class Fleet:
    """Starts, kills and stops processes by name."""

    def __init__(self, logs: Path, env: dict[str, str]) -> None:
        self._logs = logs
        self._env = {**os.environ, **env}
        self._processes: dict[str, Forked] = {}
        self.meter = Meter()
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, kind: str, module: str, *arguments: str) -> None:
        """Start `python -m module` with these arguments."""
        log = self._logs / f"{name}.log"
        self._processes[name] = Forked(name, kind, module, arguments, self._env, log)

    def cli(self, name: str, kind: str, *arguments: str) -> None:
        """Start a process by the command line of `everlode`."""
        self.start(name, kind, "everlode.cli.main", *arguments)

    def start_region(self, region: str) -> None:
        """Everything of a region but its actors. The lower its number, the sooner a node leads."""
        where = ("--region", region, "--node-id")
        self.cli(f"{region}-co-1", "coordinator", "coordinator", "run", *where, f"{region}-co-1")
        for facts, count in NODES.items():
            for n in range(1, count + 1):
                self._start_node(BY_FACTS[facts], region, n)
        for n, kind in VALIDATORS:
            self._start_node(BY_FACTS["validations"], region, n, "--validator-kind", kind)
        self.cli(f"{region}-det-1", "detector", "detector", "run", *where, f"{region}-det-1")
        self.start_projector(region)

    def start_spare(self, region: str) -> None:
        """A second automatic validator, so that the first can be lost: all else has another."""
        n, kind = SPARE
        self._start_node(BY_FACTS["validations"], region, n, "--validator-kind", kind)

    def _start_node(self, service: Service, region: str, n: int, *more: str) -> None:
        name, kind = f"{region}-{service.short}-{n}", service.node
        where = ("--region", region, "--node-id", name)
        self.cli(name, kind, "node", "run", kind, *where, *more, "--priority", str(10 - n))

    def start_projector(self, region: str) -> None:
        """The projector of a region."""
        name = f"{region}-proj-1"
        self.cli(name, "projector", "projector", "run", "--region", region, "--node-id", name)

    def alive(self, name: str) -> bool:
        """True while the process runs."""
        process = self._processes.get(name)
        return process is not None and process.exit_status is None

    def kill(self, name: str) -> None:
        """SIGKILL and reap."""
        self._processes[name].kill9()

    def stop(self, names: Sequence[str]) -> None:
        """SIGTERM to all, then wait for each, then SIGKILL."""
        running = [self._processes[n] for n in names if n in self._processes]
        for process in running:
            process.terminate()
        for process in running:
            process.stop(STOP_S)

    def dead(self) -> list[str]:
        """Processes that have ended by themselves or were killed."""
        return sorted(n for n, p in self._processes.items() if p.exit_status is not None)

    def kinds(self) -> dict[int, str]:
        """Pid → kind of what runs."""
        running = [p for p in list(self._processes.values()) if p.exit_status is None]
        return {p.pid: p.kind for p in running if p.pid is not None}

    def end(self) -> None:
        """SIGKILL everything: nothing is waited for any more. Idempotent."""
        for process in self._processes.values():
            process.kill9()
        self._processes.clear()
