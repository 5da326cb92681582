"""Keeps the members of a running stack as its options want them: whoever changes these changes it.

Each turn, when the options were written anew or something leaves:
    1. one that is not wanted any more, or not as it runs, leaves: it is asked to end, once
    2. one that has left is let go; one that has not within its time is killed
    3. one that is wanted and not there is started

Invariants: what leaves is healed no more, and stays in the record until it has ended, so a lost
supervisor leaves nobody behind; options that cannot be read change nothing. Shell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from everlode.errors import EverlodeError
from everlode.stack.healing import PARTS
from everlode.stack.native.guard import GUARD
from everlode.stack.native.layout import log_of
from everlode.stack.native.process import Command, Process
from everlode.stack.native.state import OPTIONS_FILE, load_options
from everlode.stack.services import Member, members_of, service_processes
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink
from everlode.topics import Topology

_STOP_S = 8.0


def beside(data_dir: Path, regions: tuple[str, ...]) -> list[Command]:
    """The processes of the regions that a stack runs beside its parts. Raises: ConfigError."""
    return commands_of(members_of(load_options(data_dir).get("services", {}), regions), data_dir)


def commands_of(members: Iterable[Member], data_dir: Path) -> list[Command]:
    """What the stack in `data_dir` runs for these members."""
    return [
        Command(
            one.name, one.kind, one.argv, log_of(data_dir, one.name), ready=lambda: True,
            env=one.env, stop_s=_STOP_S, needs=one.needs, made_of=one.made_of,
        )
        for one in service_processes(members, data_dir)
    ]  # fmt: skip


class Runs(Protocol):
    """What runs members; see `NativeStack`."""

    data_dir: Path
    topology: Topology

    def kept(self) -> Mapping[str, Process]:
        """All that are to run on, by name."""
        ...

    def leaving(self) -> Mapping[str, Process]:
        """All that are to end."""
        ...

    def leave(self, name: str) -> None:
        """Keep it no more."""
        ...

    def let_go(self, name: str) -> None:
        """Forget one that has ended."""
        ...

    def run(self, command: Command) -> None:
        """Start one and keep it."""
        ...


class Members:
    """`turn` again and again, from the thread that heals."""

    def __init__(self, stack: Runs, starts: Callable[[str], bool], report: Sink) -> None:
        """`starts`: whether healing starts it just now."""
        self._stack = stack
        self._starts = starts
        self._report = report
        self._file = stack.data_dir / OPTIONS_FILE
        self._read_at: tuple[int, int] | None = None
        self._wanted: dict[str, Command] = {}
        self._asked: dict[str, tuple[int, float]] = {}
        """Who leaves → the pid that was asked to end, and until when it may take its time."""

    def turn(self) -> None:
        """Look once. Raises: Unavailable: a process cannot be started."""
        if not self._read() and not self._asked:
            return
        # 1. who is not wanted, or not so
        for name, process in self._stack.kept().items():
            wanted = self._wanted.get(name)
            if process.command.kind in PARTS or name == GUARD:
                continue
            if wanted is None or wanted.made_of != process.made_of:
                self._stack.leave(name)
                self._asked[name] = (0, 0.0)
                why = "is not wanted any more" if wanted is None else "is wanted otherwise"
                self._report(Note("members", f"{name} {why}: it is asked to end"))
        # 2. who leaves
        for name, process in self._stack.leaving().items():
            self._see_off(name, process)
        # 3. who is not there
        there = self._stack.kept().keys() | self._stack.leaving().keys()
        for name in [name for name in self._wanted if name not in there]:
            self._stack.run(self._wanted[name])
            self._report(Note("members", f"{name} is started"))

    def _see_off(self, name: str, process: Process) -> None:
        asked, until = self._asked.get(name, (0, 0.0))
        if self._starts(name):  # what it starts is asked to end, too
            return
        pid = process.pid
        if pid is None:
            self._stack.let_go(name)
            self._asked.pop(name, None)
        elif pid != asked:
            process.terminate()
            self._asked[name] = (pid, time.monotonic() + process.command.stop_s)
        elif time.monotonic() > until:
            process.kill9()

    def _read(self) -> bool:
        """Read what is wanted, if it was written since. True when it was."""
        try:
            stat = self._file.stat()
            at = (stat.st_mtime_ns, stat.st_ino)
            if at == self._read_at:
                return False
            found = beside(self._stack.data_dir, self._stack.topology.regions)
        except (OSError, EverlodeError) as error:
            if self._read_at is not None:
                self._report(Note("members", f"{self._file.name} is left alone: {error}"))
            self._read_at = None
            return False
        if not load_options(self._stack.data_dir):  # nobody wrote down what is wanted, or badly
            return False
        self._read_at = at
        self._wanted = {command.name: command for command in found}
        return True
