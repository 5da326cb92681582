"""One stack a folder: the lock, and the record of the processes that its holder runs.

Invariants: the lock is the kernel's (flock), so it is free the moment its holder is gone, however
that went. Shell: files, /proc.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from pathlib import Path
from typing import IO, NamedTuple

import psutil

from everlode.errors import Locked

_LOCK = "stack.lock"
_RECORD = "processes.json"
_LOOK_S = 0.5
_ORPHAN_S = 5.0


class Recorded(NamedTuple):
    """A process of a stack, as its holder wrote it down."""

    name: str
    kind: str
    pid: int
    created: float
    """Start time in seconds since 1970: tells a reused pid."""
    made_of: str = ""
    """See `Command`."""

    @property
    def alive(self) -> bool:
        """True while that very process runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1.0
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False


class StackLock:
    """Held from `up` to `down`."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / _LOCK
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take it. Raises: Locked: another process holds it; names its pid."""
        file = self._path.open("a+")
        deadline = time.monotonic() + _LOOK_S  # whoever only looks holds it for a moment
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.close()
                    raise Locked(
                        f"a stack runs in {self._path.parent} already, pid {_pid(self._path)}",
                        hint="everlode stack down, or another folder with --dir",
                    ) from None
                time.sleep(0.05)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Give it back. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _pid(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def holder(data_dir: Path) -> int | None:
    """Pid of the process that runs a stack in `data_dir`; None when none does."""
    path = data_dir / _LOCK
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return _pid(path)


def write_record(data_dir: Path, processes: list[Recorded]) -> None:
    """Write down what runs, replacing what was written before."""
    draft = data_dir / f"{_RECORD}.tmp"
    draft.write_text(json.dumps([p._asdict() for p in processes], indent=1))
    os.replace(draft, data_dir / _RECORD)


def read_record(data_dir: Path) -> list[Recorded]:
    """What was written last; empty when nothing was."""
    try:
        rows = json.loads((data_dir / _RECORD).read_text())
        return [Recorded(**row) for row in rows]
    except (OSError, ValueError, TypeError):
        return []


def end_orphans(data_dir: Path) -> list[str]:
    """End what a killed holder left. For the holder of the lock only. Returns their names."""
    left = [p for p in read_record(data_dir) if p.alive]
    end(left)
    return [p.name for p in left]


def end(left: list[Recorded]) -> None:
    """Ask processes that are no children of ours to end, and wait; then SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            if process.alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)
        deadline = time.monotonic() + _ORPHAN_S
        while any(p.alive for p in left) and time.monotonic() < deadline:
            time.sleep(0.1)
