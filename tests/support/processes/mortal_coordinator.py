"""A coordinator that is killed, as by SIGKILL, right after the first thing it does about a node.

`python -m tests.support.processes.mortal_coordinator coordinator run ...`, as the CLI's. A thing it
does is a record that is stored: a status of a node, a decision for a lost primary, an event on the
recovery stream, and of PROBED the first answer to a probe. `Mortals` follows each by another one,
until nothing is left to do: so it dies at every step of every handler, once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from itertools import count
from pathlib import Path
from typing import Any, Self

from everlode.adapters.kafka_control import ControlLog
from everlode.cli.main import main as cli
from everlode.control import cooldown
from everlode.events.control import NodeStatusChanged, ScopeAssigned
from everlode.events.heartbeats import ProbeAnswered
from everlode.events.recovery import OperationStep
from everlode.failover.limits import Limits
from everlode.fleet.forked import Forked
from everlode.log.signals import SignalWriter
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import to_stream
from tests.support.processes.entries import entries, matching

NAME = "eu-co-"
"""What the names of coordinators begin with: what becomes of them is none of these steps."""


PROBED = "eu-tm-1"
"""One is enough: each coordinator that follows probes it again."""
TAKEOVER_S = 1.5
"""Sooner than by the lease, which ends with the killed one: else they would be most of the test."""
COOL_MS = 2_000
"""A first cool-down, likewise; to coordinators alone, whose it is."""


def die(after: str) -> None:
    """Nothing of this process goes on."""
    to_stream("coordinator")(Note("killed", after))
    os.kill(os.getpid(), signal.SIGKILL)


def first(node: str) -> bool:
    """True once, of all coordinators, and of PROBED alone."""
    mark = Path(os.environ["EVERLODE_STACK_DIR"]).with_name("probed")
    if node != PROBED or mark.exists():
        return False
    mark.touch()
    return True


def plant() -> None:
    """Plant the deaths."""
    append, send = ControlLog.append, SignalWriter.signal

    def appended(self: ControlLog, subject: str, data: Any, **kwargs: Any) -> int:
        at = append(self, subject, data, **kwargs)
        if isinstance(data, NodeStatusChanged) and not subject.startswith(NAME):
            die(f"{subject} {data.to_status}")
        if isinstance(data, ScopeAssigned) and data.failed_node:
            die(f"{data.failed_node} assigned")
        return at

    def signalled(self: SignalWriter, data: Any, **kwargs: Any) -> None:
        send(self, data, **kwargs)
        if isinstance(data, ProbeAnswered) and data.answer == "refused" and first(kwargs["key"]):
            self.flush(30)
            die(f"{kwargs['key']} probed")
        if kwargs["topic"] == "recovery" and self.flush(30) == 0:
            die(data.step if isinstance(data, OperationStep) else type(data).__name__)

    Limits.takeover_s = TAKEOVER_S  # type: ignore[method-assign, assignment]
    setattr(cooldown, "FIRST_MS", COOL_MS)  # noqa: B010 - for less to wait for
    ControlLog.append = appended  # type: ignore[method-assign]
    SignalWriter.signal = signalled  # type: ignore[method-assign]


def main() -> None:
    """As the CLI's."""
    plant()
    cli()


class Mortals:
    """Two at any time: one leads, and when it dies the other one does. A context manager."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._folder, self._env = folder, {**os.environ, **env}
        self._numbers, self._running = count(1), dict[str, Forked]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.retire()
        sys.stderr.write("--- killed after:\n" + "\n".join(self.deaths()))  # if a test fails

    def retire(self) -> None:
        """They end, and nobody follows; a second time it changes nothing."""
        self._stop.set()
        self._thread.join()
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            process.stop(8)
        self._running = {}

    def reported(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Entries of all of them; of `text` a part is enough."""
        return matching(self._entries(), kind, **fields)

    def deaths(self) -> list[str]:
        """What each was killed after, in order."""
        notes = self.reported("Note", about="killed")
        return [e["remark"] for e in sorted(notes, key=lambda e: str(e["at"]))]

    def _entries(self) -> list[dict[str, Any]]:
        return [e for path in self._folder.glob(f"{NAME}*.log") for e in entries(path)]

    def _follow(self) -> None:
        while not self._stop.wait(0.02):
            alive = {n: p for n, p in self._running.items() if p.exit_status is None}
            for node in [f"{NAME}{next(self._numbers)}" for _ in range(2 - len(alive))]:
                words = ("coordinator", "run", "--region", "eu", "--node-id", node)
                alive[node] = Forked(
                    node, "coordinator", __name__, words, self._env, self._folder / f"{node}.log"
                )
            self._running = alive


if __name__ == "__main__":
    main()
