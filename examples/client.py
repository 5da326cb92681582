"""A client: submits a task and follows it to its end; stopped and started, it goes on.

    python examples/client.py STACK REGION TASK_ID

The read position is kept in a file beside the program's work, so nothing is read twice for long
and nothing is missed. It ends with 0 when the miner was paid, with 1 when the task failed.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

from everlode.events import tasks
from everlode.sdk import Endpoints, EventConsumer, MiningClient

PARTITIONS = 2
"""Of the topology."""
FINAL = (
    tasks.TaskAttemptFailed,
    tasks.TaskLeaseExpired,
    tasks.TaskSolutionRejected,
)
"""Events that may end a task: they say so."""


def follow(stack: str, region: str, task_id: str) -> bool:
    """Submit the task, unless it has been, and print what happens to it; True when it was paid."""
    endpoints = Endpoints.load(stack)
    place = endpoints.regions[region]
    with MiningClient(endpoints, region, "client-1") as client:
        payload = sha256(task_id.encode()).hexdigest()
        answer = client.submit_task(task_id, "inference", f"s3://work/{task_id}", payload, 64)
        print(f"{task_id} {answer.outcome}", flush=True)
    saved = Path(f"{task_id}.position")
    position = saved.read_text() if saved.exists() else None
    topics = [f"{place.origin}.tasks"]
    with EventConsumer(place.kafka_bootstrap, topics, PARTITIONS, position=position) as log:
        for received in log:
            fact = received.fact
            if fact.envelope.aggregate_id == task_id:
                print(f"{fact.envelope.version} {type(fact.data).__name__}", flush=True)
                if isinstance(fact.data, tasks.TaskRewarded | tasks.TaskCancelled):
                    return isinstance(fact.data, tasks.TaskRewarded)
                if isinstance(fact.data, FINAL) and fact.data.final:
                    return False
            saved.write_text(log.position)  # after the work: what is not saved comes again
    raise AssertionError("the log never ends")


if __name__ == "__main__":
    sys.exit(not follow(*sys.argv[1:4]))
