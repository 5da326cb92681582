"""A client: submits a task and follows it to its end; stopped and started, it goes on.

    python examples/client.py STACK REGION TASK_ID

The last change's token is kept in a file beside the program's work, so no change is missed. It ends
with 0 when the miner was paid, with 1 when the task failed.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

from everlode.sdk import Endpoints, MiningClient


def follow(stack: str, region: str, task_id: str) -> bool:
    """Submit the task, unless it has been, and print what happens to it; True when it was paid."""
    payload = sha256(task_id.encode()).hexdigest()
    saved = Path(f"{task_id.replace('/', '-')}.token")
    with MiningClient(Endpoints.load(stack), region, "client-1") as client:
        answer = client.submit_task(task_id, "inference", f"s3://work/{task_id}", payload, 64)
        print(f"{task_id} {answer.outcome}", flush=True)
        since = saved.read_text() if saved.exists() else answer
        for change in client.watch(task_id, since):
            print(f"{change.version} {change.kind}", flush=True)
            if change.ended:
                return change.status == "rewarded"
            saved.write_text(change.token)  # after the work: what is not saved comes again
    raise AssertionError("a watch ends with its task")


if __name__ == "__main__":
    sys.exit(not follow(*sys.argv[1:4]))
