"""Leave a stack running behind a command, and stop it from another one.

Invariants: a start that fails or is interrupted leaves nothing running. Shell: processes, signals.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from everlode.errors import DeadlineExceeded, EverlodeError, Locked, Precondition, Unavailable
from everlode.settings.endpoints import Endpoints
from everlode.stack.condition import look
from everlode.stack.native.guard import GUARD, spawn, supervisor_argv
from everlode.stack.native.lock import Recorded, end_orphans, holder, read_record
from everlode.stack.native.state import SUPERVISOR_LOG, read_state, write_state
from everlode.stack.native.supervisor import build, reported_by
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
    """Start the supervisor, pass on what it reports, return when everything serves.

    Raises: whatever stopped it; DeadlineExceeded, after taking it down. What was taken over from a
    lost supervisor runs on in any case.
    """
    owner = holder(folder)
    if owner is not None:
        build(folder, ports).up()  # raises Locked and names the pid
    deadline = time.monotonic() + timeout
    more = ("--remake-topics",) if remake_topics else ()
    child = spawn(folder, supervisor_argv(folder, ports, *more))
    try:
        _follow(folder, child, deadline, report)
    except BaseException:
        if child.poll() is None:
            child.terminate()
            child.wait()
        raise
    _forget_ended()
    _left_running.append(child)
    _await_parts(folder, deadline)
    return Endpoints.load(folder)


def _forget_ended() -> None:
    _left_running[:] = [child for child in _left_running if child.poll() is None]


def _follow(folder: Path, child: subprocess.Popen[bytes], deadline: float, report: Sink) -> None:
    shown = 0
    while True:
        ended = child.poll()
        state = read_state(folder)
        if state.get("pid") != child.pid:  # of an earlier one
            state = {}
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


def _await_parts(folder: Path, deadline: float) -> None:
    """Wait until all parts answer: of a stack that was taken over some may have to be started.

    Raises: Unavailable: a part was given up. DeadlineExceeded.
    """
    while not (found := look(folder)).as_asked:
        over = [part for part in found.parts if part.state == "given up"]
        if over:
            raise Unavailable(f"{over[0].name} {over[0].why}")
        if time.monotonic() > deadline:
            why = "; ".join(f"{part.name}: {part.why}" for part in found.parts if part.why)
            raise DeadlineExceeded(f"not everything serves: {why}", hint="everlode stack status")
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
    asked: int | None = None
    deadline = time.monotonic() + timeout
    while True:
        pid = holder(folder)
        left = [p for p in read_record(folder) if p.alive]
        if pid is not None and pid != asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            asked = pid
        elif pid is None and (guards := [p for p in left if p.name == GUARD]):
            _end_guards(guards)  # they would start another supervisor
        elif pid is None and left:
            asked = left[0].pid if asked is None else asked
            _stop_left(folder)
        elif pid is None:
            break
        if time.monotonic() > deadline:
            raise DeadlineExceeded(f"pid {pid} still runs the stack", hint=f"kill {pid}")
        time.sleep(_POLL_S)
    _reap(asked, deadline)
    return asked


def _end_guards(guards: list[Recorded]) -> None:
    for process in guards:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _stop_left(folder: Path) -> None:
    """Stop what runs without a supervisor, in good order."""
    stack = build(folder, {}, outlives=True)
    try:
        stack.adopt()
    except Precondition:
        end_orphans(folder)
    except Locked:  # somebody takes over just now, and is asked next
        return
    stack.down()
    write_state(folder, "stopped")


def _reap(pid: int | None, deadline: float) -> None:
    for child in _left_running:
        if child.pid == pid:
            child.wait(max(0.1, deadline - time.monotonic()))
    _forget_ended()
