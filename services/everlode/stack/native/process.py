"""Supervision of the processes of a stack: start, await, pause, kill, stop, and leave nothing over.

Invariants: every process is in a group of its own and dies with us, even when we are killed by
SIGKILL (parent-death signal), unless its command says that it outlives us; then whoever takes over
adopts it. Whatever a killed process leaves behind is adopted (child subreaper), killed and reaped.
Shell: processes and signals.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from everlode.errors import Unavailable
from everlode.stack.native.lock import Recorded
from everlode.stack.native.privilege import Identity, become_subreaper, child_setup

_POLL_S = 0.05
_TAIL_LINES = 15
UNKNOWN_STATUS = 256
"""Exit status of a process that was no child of ours: only its parent learns it."""


@dataclass(frozen=True)
class Command:
    """A process to run."""

    name: str
    """Unique in its stack, e.g. eu/kafka."""
    kind: str
    """For the sums by kind: kafka, control, mirror, postgres or s3."""
    argv: tuple[str, ...]
    log: Path
    """Gets standard output and error, appended."""
    ready: Callable[[], bool]
    """Asked again and again after the start; True once the process serves."""
    env: dict[str, str] = field(default_factory=dict)
    """Added to ours."""
    identity: Identity | None = None
    """Whom to run as; None: as ourselves."""
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals | None = signal.SIGKILL
    """What the kernel sends it when we die; None: it outlives us."""
    cwd: Path | None = None
    stop_s: float = 20.0
    """Seconds from the stop signal to SIGKILL."""
    needs: tuple[str, ...] = ()
    """Names of what has to serve before it can start."""
    made_of: str = ""
    """A digest of what it was made of; one that runs with another one is replaced."""


class Adopted:
    """A process that another one than us has started, and that we take over: no child of ours."""

    def __init__(self, recorded: Recorded | None) -> None:
        """None: it has ended, nobody knows when."""
        self._recorded = recorded
        self.pid = 0 if recorded is None else recorded.pid

    def poll(self) -> int | None:
        """None while it runs, then UNKNOWN_STATUS."""
        if self._recorded is not None and not self._recorded.alive:
            self._recorded = None
        return UNKNOWN_STATUS if self._recorded is None else None

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended. Raises: subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(_POLL_S)
        return status

    def send_signal(self, number: int) -> None:
        """Raises: ProcessLookupError: it has just ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


class _Spawner:
    """One thread, alive as long as we are, that makes all children.

    The kernel sends the parent-death signal when the *thread* that forked ends, so a child made by
    a worker thread would die with the worker.
    """

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pid = 0

    def spawn(self, make: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                self._work = queue.SimpleQueue()
                threading.Thread(target=self._run, name="stack-spawner", daemon=True).start()
        answer: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()

        def work() -> None:
            try:
                answer.put(make())
            except OSError as exc:
                answer.put(exc)
            except subprocess.SubprocessError as exc:
                answer.put(OSError(str(exc)))

        self._work.put(work)
        made = answer.get()
        if isinstance(made, OSError):
            raise made
        return made

    def _run(self) -> None:
        while True:
            self._work.get()()


_SPAWNER = _Spawner()


class Process:
    """One supervised process; may be started again after it ended."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.made_of = command.made_of
        """Of the process that runs: another one may have started it, from another command."""
        self._popen: subprocess.Popen[bytes] | Adopted | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Its name in the stack."""
        return self.command.name

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        popen = self._popen
        return popen.pid if popen is not None and popen.poll() is None else None

    @property
    def exit_status(self) -> int | None:
        """Of a process that has ended (negative: the signal); None while it runs or before."""
        return None if self._popen is None else self._popen.poll()

    def adopt(self, recorded: Recorded | None) -> None:
        """Take over what another one has started; None when it has ended meanwhile."""
        self._popen = Adopted(recorded)
        if recorded is not None and recorded.made_of:
            self.made_of = recorded.made_of

    def start(self) -> None:
        """Start it. No-op while it runs. Raises: Unavailable: it cannot be executed."""
        with self._lock:
            if self.pid is not None:
                return
            become_subreaper()
            command = self.command
            command.log.parent.mkdir(parents=True, exist_ok=True)
            setup = child_setup(os.getpid(), command.orphan_signal, command.identity)
            with command.log.open("ab") as log:
                try:
                    self._popen = _SPAWNER.spawn(
                        lambda: subprocess.Popen(
                            command.argv,
                            stdin=subprocess.DEVNULL,
                            stdout=log,
                            stderr=subprocess.STDOUT,
                            env=os.environ | command.env,
                            cwd=command.cwd,
                            start_new_session=True,
                            preexec_fn=setup,
                        )
                    )
                except OSError as exc:
                    raise Unavailable(
                        f"{command.name} cannot be started: {exc}", code="cannot_start"
                    ) from exc

    def await_ready(self, deadline: float, aborted: threading.Event | None = None) -> None:
        """Wait until it serves. `deadline` by time.monotonic(); `aborted` ends the wait early.

        Raises: Unavailable: it ended, or is not ready in time; with the tail of its log.
        """
        while not self.command.ready():
            if aborted is not None and aborted.is_set():
                raise Unavailable(f"{self.name}: the start was given up")
            status = self.exit_status
            if status is not None:
                raise Unavailable(
                    f"{self.name} ended with status {status} before it was ready\n{self.tail()}",
                    code="died",
                    hint=f"its log is {self.command.log}",
                )
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{self.name} is not ready in time\n{self.tail()}",
                    code="not_ready",
                    hint=f"its log is {self.command.log}",
                )
            time.sleep(_POLL_S)

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """The last lines of its log."""
        with contextlib.suppress(OSError), self.command.log.open(errors="replace") as log:
            return "".join(deque(log, lines)).rstrip()
        return ""

    def terminate(self) -> None:
        """Ask it to end; returns at once."""
        self._signal(signal.SIGCONT)
        self._signal(self.command.stop_signal)

    def stop(self) -> int | None:
        """End it: stop signal, then SIGKILL after `stop_s`; reap it and all it left. Idempotent."""
        family = self._family()
        self.terminate()
        popen = self._popen
        if popen is not None:
            try:
                popen.wait(self.command.stop_s)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                popen.wait()
        _end(family)
        return self.exit_status

    def kill9(self) -> None:
        """SIGKILL it and its children, and reap them: a crash."""
        family = self._family()
        self._signal(signal.SIGKILL)
        for child in family:
            with contextlib.suppress(psutil.Error):
                child.kill()
        if self._popen is not None:
            self._popen.wait()
        _end(family)

    def pause(self) -> None:
        """SIGSTOP it and its children."""
        self._signal(signal.SIGSTOP)
        for child in self._family():
            with contextlib.suppress(psutil.Error):
                child.suspend()

    def resume(self) -> None:
        """SIGCONT, after `pause`."""
        for child in self._family():
            with contextlib.suppress(psutil.Error):
                child.resume()
        self._signal(signal.SIGCONT)

    def resident_bytes(self) -> int:
        """See `resident_bytes`; 0 when it does not run."""
        pid = self.pid
        return 0 if pid is None else resident_bytes(pid)

    def _family(self) -> list[Any]:
        pid = self.pid
        if pid is None:
            return []
        try:
            return list(psutil.Process(pid).children(recursive=True))
        except psutil.Error:
            return []

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._popen is not None and self._popen.poll() is None:
                self._popen.send_signal(number)


def resident_bytes(pid: int) -> int:
    """Memory that a process and its children keep; what a child shares counts at the parent."""
    total = 0
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        total = int(parent.memory_info().rss)
        for child in parent.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                info = child.memory_info()
                total += int(info.rss) - int(info.shared)
    return total


def _end(family: list[Any]) -> None:
    """Kill and reap adopted children: PostgreSQL's are in sessions of their own."""
    _gone, alive = psutil.wait_procs(family, timeout=1.0)
    for child in alive:
        with contextlib.suppress(psutil.Error):
            child.kill()
    psutil.wait_procs(alive, timeout=2.0)
    for child in family:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child.pid, os.WNOHANG)
