"""Processes forked from one that has imported everything: thirty starts cost one import.

Each is a process of its own, in a session of its own, with a log of its own, and kills itself when
we are gone; then the server ends too. Only the standard library's fork server is used; no client
library has begun a thread in it. A program that starts any of these must guard its main part by
`if __name__ == "__main__"`: each child imports it. Shell.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path

PRELOADED = (
    "everlode.cli.node", "everlode.cli.coordinator", "everlode.cli.detector",
    "everlode.cli.projector", "everlode.workload.actors",
    "everlode.fleet.warm",
)  # fmt: skip
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(list(PRELOADED))
_GUARD = threading.Lock()
"""The library looks after its processes without a lock; we ask from two threads."""


def _run(
    name: str, module: str, arguments: tuple[str, ...], env: Mapping[str, str], log: str
) -> None:
    """In the child: what `python -m module arguments` does, under a name that `ps` shows."""
    Path("/proc/self/comm").write_text(name)
    os.setsid()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with open(log, "ab", buffering=0) as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [module, *arguments]
    importlib.import_module(module).main()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


class Forked:
    """One process. Started at once; ended by `terminate` and `stop`, or `kill9`.

    `env` is all of its environment; the server's own may be another, as it began before.
    """

    def __init__(
        self, name: str, kind: str, module: str, arguments: tuple[str, ...],
        env: Mapping[str, str], log: Path,
    ) -> None:  # fmt: skip
        self.kind = kind
        self._process = _CONTEXT.Process(
            target=_run, args=(name, module, arguments, dict(env), str(log)), daemon=True
        )
        with _GUARD:
            self._process.start()

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self.exit_status is None else None

    @property
    def exit_status(self) -> int | None:
        """Of a process that has ended (negative: the signal); None while it runs."""
        with _GUARD:
            return self._process.exitcode

    def terminate(self) -> None:
        """SIGTERM; returns at once."""
        with _GUARD:
            self._process.terminate()

    def kill9(self) -> None:
        """SIGKILL, and wait."""
        with _GUARD:
            self._process.kill()
        wait([self._process.sentinel])

    def ended(self, within_s: float | None) -> bool:
        """Whether it ends within this time; None waits for as long as it takes."""
        return bool(wait([self._process.sentinel], within_s))

    def stop(self, within_s: float) -> None:
        """Wait for the end, then SIGKILL. Idempotent."""
        if not self.ended(within_s):
            self.kill9()
