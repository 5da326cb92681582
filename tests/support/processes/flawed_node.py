"""A node with a mistake in its rules, for tests of what a primary does then.

`python -m tests.support.processes.flawed_node node run ...`: a deposit of FLAWED_MICRO raises
KeyError wherever it is decided.
"""

from __future__ import annotations

from typing import Any

from everlode.cli.main import main
from everlode.events.commands import DepositStake
from everlode.primary import batch
from everlode.state import dispatch

FLAWED_MICRO = 666

if __name__ == "__main__":
    honest = dispatch.decide

    def decide(component: str, command: Any, *rest: Any) -> Any:
        if isinstance(command, DepositStake) and command.amount_micro == FLAWED_MICRO:
            raise KeyError("nobody foresaw this")
        return honest(component, command, *rest)

    setattr(batch, "decide", decide)  # noqa: B010 - a planted mistake
    main()
