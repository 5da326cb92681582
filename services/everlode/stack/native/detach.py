"""Leave a stack running behind a command, and stop it from another one.

Invariants: a start that fails or is interrupted leaves nothing running. Shell: processes, signals.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from everlode.errors import DeadlineExceeded, EverlodeError, Unavailable
from everlode.settings.endpoints import Endpoints
from everlode.stack.native.lock import holder, read_record
from everlode.stack.native.supervisor import (
    STATE_FILE,
    SUPERVISOR_LOG,
    build,
    read_state,
    reported_by,
)
from everlode.telemetry.sink import Sink, silent

_POLL_S = 0.1
_left_running: list[subprocess.Popen[bytes]] = []
"""Kept, because Python warns of a child that is forgotten while it runs."""


def start_detached(
    folder: Path,
    ports: dict[str, int],
    timeout: float,
    report: Sink = silent,
    *,
    remake_topics: bool = False,
) -> Endpoints:
    """Start the supervisor, pass on what it reports, return when it is ready.

    Raises: whatever stopped it; DeadlineExceeded, after taking it down.
    """
    owner = holder(folder)
    if owner is not None:
        build(folder, ports).up()  # raises Locked and names the pid
    argv = [sys.executable, "-m", "everlode.stack.native.supervisor", "--dir", str(folder)]
    for name, number in ports.items():
        argv += ["--port", f"{name}={number}"]
    if remake_topics:
        argv.append("--remake-topics")
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    (folder / STATE_FILE).unlink(missing_ok=True)
    log_path = folder / "logs" / SUPERVISOR_LOG
    with log_path.open("ab") as log:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _follow(folder, child, time.monotonic() + timeout, report)
    except BaseException:
        if child.poll() is None:
            child.terminate()
            child.wait()
        raise
    _forget_ended()
    _left_running.append(child)
    return Endpoints.load(folder)


def _forget_ended() -> None:
    _left_running[:] = [child for child in _left_running if child.poll() is None]


def _follow(folder: Path, child: subprocess.Popen[bytes], deadline: float, report: Sink) -> None:
    shown = 0
    while True:
        ended = child.poll()
        state = read_state(folder)
        reported = reported_by(state)
        for entry in reported[shown:]:
            report(entry)
        shown = max(shown, len(reported))
        if state.get("state") == "ready":
            return
        if state.get("state") == "failed":
            child.wait()
            raise _failure(state["error"], int(state["exit_code"]))
        if ended is not None:
            raise Unavailable(
                f"the supervisor ended with status {ended}",
                hint=f"see {folder / 'logs' / SUPERVISOR_LOG}",
            )
        if time.monotonic() > deadline:
            raise DeadlineExceeded("the stack is not ready in time", hint="a longer --timeout")
        time.sleep(_POLL_S)


def _failure(error: dict[str, str], exit_code: int) -> EverlodeError:
    """The supervisor's error, with its exit code, in this process."""
    failure = EverlodeError(error["message"], code=error["code"], hint=error["hint"])
    failure.exit_code = exit_code  # type: ignore[misc]
    return failure


def stop_detached(folder: Path, timeout: float) -> int | None:
    """Stop the stack in `folder` and wait until nothing of it runs.

    Returns the pid that ran it; None when none did. Raises: DeadlineExceeded.
    """
    pid = holder(folder)
    if pid is None:
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    for child in _left_running:
        if child.pid == pid:
            child.wait(timeout)
    _forget_ended()
    deadline = time.monotonic() + timeout
    while holder(folder) is not None or any(p.alive for p in read_record(folder)):
        if time.monotonic() > deadline:
            raise DeadlineExceeded(f"pid {pid} still runs the stack", hint=f"kill {pid}")
        time.sleep(_POLL_S)
    return pid
