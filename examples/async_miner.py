"""A miner on asyncio: several jobs at once, in one thread, until Ctrl-C.

    python examples/async_miner.py STACK REGION MINER_ID

As examples/miner.py otherwise: the work is a stand-in, and it may be killed at any moment.
"""

from __future__ import annotations

import asyncio
import sys
from hashlib import sha256

from everlode.sdk import AsyncJob, AsyncMiningClient, Endpoints, MiningClient, Refusal


async def solve(job: AsyncJob, miner_id: str) -> None:
    """Work on one job, and hand it in."""
    task = job.sync.task_id
    try:
        await job.progress(500_000)
        solution = sha256(job.sync.payload_sha256.encode()).hexdigest()
        await job.hand_in(f"s3://mine/{solution}", solution, 64, work_ms=5_000)
        print(f"{miner_id} solved {task}", flush=True)
    except Refusal as refused:  # cancelled, or given to another since
        print(f"{miner_id} passes {task} over: {refused.message}", flush=True)


async def mine(stack: str, region: str, miner_id: str) -> None:
    """Register, then solve each task that is assigned to this miner, four at a time."""
    endpoints = Endpoints.load(stack)
    async with (
        AsyncMiningClient(endpoints, region, miner_id) as miner,
        miner.work() as work,
        asyncio.TaskGroup() as jobs,
    ):
        types, stake = ["data-processing"], f"first-stake-{miner_id}"
        where = "127.0.0.1:9000"
        await miner.run(MiningClient.register_miner, types, endpoint=where, max_concurrent=4)
        await miner.run(MiningClient.deposit_stake, 10_000_000, command_id=stake)
        print(f"{miner_id} is registered", flush=True)
        async for job in work:
            jobs.create_task(solve(job, miner_id))


if __name__ == "__main__":
    asyncio.run(mine(*sys.argv[1:4]))
