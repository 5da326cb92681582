"""A process with a mistake in its rules, for tests of what it does then.

`python -m tests.support.processes.flawed_node ...`, as the CLI's: a deposit of FLAWED_MICRO raises
KeyError wherever it is decided, a heartbeat of FLAWED_BEAT wherever it is observed.
"""

from __future__ import annotations

from typing import Any

from everlode.cli.main import main
from everlode.detection.detector import Detector
from everlode.events.base import Fact
from everlode.events.commands import DepositStake
from everlode.failover.heartbeats import Heartbeats
from everlode.primary import batch
from everlode.state import dispatch

FLAWED_MICRO = 666
FLAWED_BEAT = "flawed-beat"
FLAW = KeyError("nobody foresaw this")


def plant(reader: Any) -> None:
    """Plant the mistake in whoever observes heartbeats."""
    honest = reader.observe

    def observe(self: Any, *words: Any) -> Any:
        for word in words:
            if isinstance(word, Fact) and word.envelope.aggregate_id == FLAWED_BEAT:
                raise FLAW
        return honest(self, *words)

    reader.observe = observe


if __name__ == "__main__":
    honest = dispatch.decide

    def decide(component: str, command: Any, *rest: Any) -> Any:
        if isinstance(command, DepositStake) and command.amount_micro == FLAWED_MICRO:
            raise FLAW
        return honest(component, command, *rest)

    setattr(batch, "decide", decide)  # noqa: B010 - a planted mistake
    for reader in (Detector, Heartbeats):
        plant(reader)
    main()
