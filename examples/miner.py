"""A miner: registers, beats, and solves what it is given, until Ctrl-C.

    python examples/miner.py STACK REGION MINER_ID

The work is a stand-in: the solution of a payload is the SHA-256 of its SHA-256. Everything that the
miner says may be said again, so after a crash it reads the log anew and goes on.
"""

from __future__ import annotations

import sys
from hashlib import sha256

from everlode.errors import Refusal
from everlode.events.tasks import TaskAssigned, TaskSubmitted
from everlode.sdk import Endpoints, EventConsumer, MinerBeacon, MiningClient

PARTITIONS = 2
"""Of the topology."""


def mine(stack: str, region: str, miner_id: str) -> None:
    """Register, then solve each task that is assigned to this miner."""
    endpoints = Endpoints.load(stack)
    place = endpoints.regions[region]
    running: set[str] = set()
    solved: set[str] = set()
    payloads: dict[str, str] = {}
    with (
        MiningClient(endpoints, region, miner_id) as client,
        MinerBeacon(
            place.kafka_bootstrap,
            place.origin,
            PARTITIONS,
            [miner_id],
            running=lambda _: tuple(running),
            finished=lambda _: len(solved),
        ),
        EventConsumer(place.kafka_bootstrap, [f"{place.origin}.tasks"], PARTITIONS) as log,
    ):
        client.register_miner(["inference"], endpoint="127.0.0.1:9000", gpus=1)
        client.deposit_stake(10_000_000, command_id=f"first-stake-{miner_id}")
        print(f"{miner_id} is registered", flush=True)
        for received in log:
            fact = received.fact
            task_id = fact.envelope.aggregate_id
            if isinstance(fact.data, TaskSubmitted):
                payloads[task_id] = fact.data.payload_sha256
            if not isinstance(fact.data, TaskAssigned) or fact.data.miner_id != miner_id:
                continue
            running.add(task_id)
            try:
                client.report_progress(task_id, fact.data.attempt, 500_000)
                solution = sha256(payloads[task_id].encode()).hexdigest()
                client.submit_solution(
                    task_id, fact.data.attempt, f"s3://mine/{solution}", solution, 64, work_ms=5_000
                )
                solved.add(task_id)
                print(f"{miner_id} solved {task_id}", flush=True)
            except Refusal as refused:  # solved before this start, or given to another since
                print(f"{miner_id} passes {task_id} over: {refused.message}", flush=True)
            running.discard(task_id)


if __name__ == "__main__":
    mine(*sys.argv[1:4])
