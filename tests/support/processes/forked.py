"""A process of ours without its imports, as far as tests ask something of it.

A program of its own imports everything first: a second of a core for each node of each test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from everlode.fleet.forked import Forked

CLI = "everlode.cli.main"


class Started:
    """`python -m everlode.cli.main words`, with what `subprocess.Popen` has of it."""

    def __init__(self, words: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self._words = list(words)
        self._forked = Forked("everlode", words[0], CLI, tuple(words), env, log)
        pid = self._forked.pid
        assert pid is not None, f"it ended at once: {words}"
        self.pid = pid

    def poll(self) -> int | None:
        return self._forked.exit_status

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def wait(self, timeout: float | None = None) -> int:
        if not self._forked.ended(timeout):
            raise subprocess.TimeoutExpired(self._words, timeout or 0.0)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = Started | subprocess.Popen[bytes]


def started(module: str, words: Sequence[str], log: Path, env: Mapping[str, str]) -> Process:
    """Start `python -m module words`; its output is added to `log`."""
    if module == CLI:
        return Started(words, log, env)
    command = [sys.executable, "-m", module, *words]
    with log.open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, env=dict(env))
