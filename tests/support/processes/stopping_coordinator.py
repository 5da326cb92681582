"""A coordinator that stops itself, with SIGSTOP, at its first decision about a lost node.

`python -m tests.support.processes.stopping_coordinator coordinator run ...`.
COORDINATOR_STOPS_AT: `plan`, when the decision is planned and nothing else is done; `write`, when
it is about to be appended. Once it is woken it goes on as if nothing had been.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from everlode.adapters.kafka_control import ControlLog
from everlode.cli.main import main
from everlode.events.control import ScopeAssigned
from everlode.failover.decisions import Decisions, Loss
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import to_stream

STOPPED: list[str] = []


def stop(where: str) -> None:
    """Once, and only where it was asked to."""
    if where == os.environ["COORDINATOR_STOPS_AT"] and not STOPPED:
        STOPPED.append(where)
        to_stream("coordinator")(Note("stop", f"stopped before the {where}"))
        os.kill(os.getpid(), signal.SIGSTOP)


def plant() -> None:
    """Plant the stops."""
    assign, append = Decisions.assign, ControlLog.append

    def planned(self: Decisions, *args: Any, **kwargs: Any) -> None:
        if any(isinstance(arg, Loss) for arg in args):
            stop("plan")
        assign(self, *args, **kwargs)

    def written(self: ControlLog, subject: str, data: Any, **kwargs: Any) -> int:
        if isinstance(data, ScopeAssigned) and data.failed_node:
            stop("write")
        return append(self, subject, data, **kwargs)

    Decisions.assign = planned  # type: ignore[method-assign]
    ControlLog.append = written  # type: ignore[method-assign]


if __name__ == "__main__":
    plant()
    main()
