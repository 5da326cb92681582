"""A coordinator that is killed, as by SIGKILL, at one step of an operator's wish.

`python -m tests.support.processes.dying_coordinator coordinator run ...`.
COORDINATOR_STOPS_AT: `before TYPE` or `after TYPE`, e.g. `after FreezeAsked`: it dies before or
after it appends the first such record that is for a wish.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from everlode.adapters.kafka_control import ControlLog
from everlode.cli.main import main


def plant() -> None:
    """Plant the death."""
    when, _, kind = os.environ["COORDINATOR_STOPS_AT"].partition(" ")
    append = ControlLog.append

    def appended(self: ControlLog, subject: str, data: Any, **kwargs: Any) -> int:
        dies = type(data).__name__ == kind and bool(getattr(data, "operation_id", None))
        if dies and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        at = append(self, subject, data, **kwargs)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return at

    ControlLog.append = appended  # type: ignore[method-assign]


if __name__ == "__main__":
    plant()
    main()
