"""A node that asks again and again whether it leads, and writes each yes down with its time.

    python -m tests.support.processes.asking_node STACK NODE_ID FENCE_AFTER_MS FILE

A line a yes: nanoseconds of the machine's monotonic clock before and after it was asked, and the
epoch. Ends with 1 when it has fenced itself, with an error's own code when it is refused.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from everlode.errors import EverlodeError
from everlode.membership.agent import Identity, NodeAgent
from everlode.settings.endpoints import Endpoints

SCOPE = "rewards/eu"


def main(stack: str, node_id: str, fence_after_ms: str, file: str) -> int:
    """Ask until fenced for good."""
    agent = NodeAgent.of(
        Identity(node_id, "eu", "eu.1", "rewards"), Endpoints.load(stack), scopes=(SCOPE,),
        renew_ms=300, fence_after_ms=int(fence_after_ms),
    )  # fmt: skip
    try:
        agent.start()
    except EverlodeError as error:
        sys.stderr.write(f"{error.code}: {error.message}\n")
        return error.exit_code
    with Path(file).open("a", buffering=1) as out:
        out.write("ready\n")
        while agent.failed is None:
            before = time.monotonic_ns()
            epoch = agent.leads(SCOPE)
            if epoch is not None:
                out.write(f"{before} {time.monotonic_ns()} {epoch}\n")
            time.sleep(0.002)
    sys.stderr.write(f"{agent.failed}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
