"""A miner: registers, then solves what it is given, until Ctrl-C.

    python examples/miner.py STACK REGION MINER_ID

The work is a stand-in: the solution of a payload is the SHA-256 of its SHA-256. It may be killed at
any moment: started again, it begins with what it had not handed in.
"""

from __future__ import annotations

import sys
from hashlib import sha256

from everlode.sdk import Endpoints, MiningClient, Refusal


def mine(stack: str, region: str, miner_id: str) -> None:
    """Register, then solve each task that is assigned to this miner."""
    with MiningClient(Endpoints.load(stack), region, miner_id) as miner, miner.work() as work:
        miner.register_miner(["inference"], endpoint="127.0.0.1:9000", gpus=1)
        miner.deposit_stake(10_000_000, command_id=f"first-stake-{miner_id}")
        print(f"{miner_id} is registered", flush=True)
        for job in work:
            try:
                job.progress(500_000)
                solution = sha256(job.payload_sha256.encode()).hexdigest()
                job.hand_in(f"s3://mine/{solution}", solution, 64, work_ms=5_000)
                print(f"{miner_id} solved {job.task_id}", flush=True)
            except Refusal as refused:  # cancelled, or given to another since
                print(f"{miner_id} passes {job.task_id} over: {refused.message}", flush=True)


if __name__ == "__main__":
    mine(*sys.argv[1:4])
