"""Child of `benchmarks.false_verdicts`: tasks as fast as they are answered, until SIGTERM.

`python -m benchmarks._loading NAME`, of the stack in EVERLODE_STACK_DIR. Prints at its end how
many commands were answered, as one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from concurrent.futures import Future
from itertools import count
from pathlib import Path

from benchmarks._failover_child import TASK
from everlode.events import commands as c
from everlode.events.base import CommandAnswered
from everlode.processes.host import until_signal
from everlode.sdk import MiningClient
from everlode.settings.endpoints import Endpoints

WINDOW = 200
"""Commands on their way at any time."""


def main() -> None:
    """Each task is submitted and, once it is known, cancelled: nothing piles up."""
    name, stop = sys.argv[1], until_signal()
    waiting = deque[Future[CommandAnswered]]()
    endpoints = Endpoints.load(Path(os.environ["EVERLODE_STACK_DIR"]))
    answered = 0
    with MiningClient(endpoints, "eu", name, timeout_s=90, window=2 * WINDOW) as client:
        for number in count():
            if stop.is_set():
                break
            waiting.append(client.send(f"eu/{name}-{number}", TASK))
            if number >= WINDOW:
                cancelled = f"eu/{name}-{number - WINDOW}"
                waiting.append(client.send(cancelled, c.CancelTask(reason="r")))
            while len(waiting) > WINDOW:
                answered += waiting.popleft().result(90).outcome == "done"
    print(json.dumps({"answered": answered}))


if __name__ == "__main__":
    main()
