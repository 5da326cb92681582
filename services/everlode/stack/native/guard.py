"""Watches a detached stack's supervisor, as that one watches everything else, this guard too.

A supervisor that ended without having been asked to is started again and takes over what it left
running. When both die at once nobody is left: `stack status` says so, `stack up` takes over.

Invariants: it starts a supervisor only while none holds the lock, and never one for a stack that
is being stopped. Shell: processes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from everlode.stack.healing import Exit, GiveUp, Lost, Start, plan
from everlode.stack.native.lock import holder
from everlode.stack.native.state import SUPERVISOR_LOG, read_state

GUARD = "guard"
_LOOK_S = 0.3
_OVER = ("stopping", "stopped", "failed")


def guard_argv(folder: Path, ports: dict[str, int]) -> tuple[str, ...]:
    """The command line of a stack's guard."""
    return _argv("everlode.stack.native.guard", folder, _options(ports))


def supervisor_argv(folder: Path, ports: dict[str, int], *more: str) -> tuple[str, ...]:
    """The command line of a stack's supervisor."""
    return _argv("everlode.stack.native.supervisor", folder, (*_options(ports), *more))


def _options(ports: dict[str, int]) -> tuple[str, ...]:
    return tuple(x for name, port in ports.items() for x in ("--port", f"{name}={port}"))


def ports_of(options: Sequence[str]) -> dict[str, int]:
    """What `--port` options say: name → number."""
    return {name: int(port) for name, _, port in (option.partition("=") for option in options)}


def _argv(module: str, folder: Path, more: Sequence[str]) -> tuple[str, ...]:
    return (sys.executable, "-m", module, "--dir", str(folder), *more)


def spawn(folder: Path, argv: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a supervisor that outlives us, with its log in the folder."""
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    with (folder / "logs" / SUPERVISOR_LOG).open("ab") as log:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def watch(folder: Path, argv: Sequence[str]) -> int:
    """Until the stack is stopped (0), or its supervisor keeps ending (1)."""
    exits: list[Exit] = []
    child: subprocess.Popen[bytes] | None = None
    lost = False
    while read_state(folder).get("state") not in _OVER:
        time.sleep(_LOOK_S)
        if holder(folder) is not None:
            lost = False
            continue
        if child is not None and child.poll() is None:
            continue  # it is on its way to the lock
        if not lost:
            lost = True
            exits.append(Exit(time.time(), None if child is None else child.returncode))
        match plan(Lost("supervisor", exits), time.time()):
            case Start():
                child, lost = spawn(folder, argv), False
            case GiveUp():
                return 1
    return 0


def main() -> int:
    """Entry of the guard's process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", action="append", default=[])
    arguments = parser.parse_args()
    return watch(arguments.dir, supervisor_argv(arguments.dir, ports_of(arguments.port)))


if __name__ == "__main__":
    sys.exit(main())
