"""A miner whose work takes as long as a file is missing: for tests that kill it meanwhile.

    python slow_miner.py STACK MINER_ID GO_ON_FILE

It prints a line a step: what it has begun, and what it has handed in.
"""

from __future__ import annotations

import sys
import time
from hashlib import sha256
from pathlib import Path

from everlode.sdk import Endpoints, MiningClient


def main(stack: str, miner_id: str, go_on: str) -> None:
    """Work for ever."""
    with (
        MiningClient(Endpoints.load(stack), "eu", miner_id) as miner,
        miner.work() as work,
    ):
        print("ready", flush=True)
        for job in work:
            print(
                "begun", job.task_id, job.attempt, job.payload_uri, job.checkpoint_uri,
                job.progress_ppm, flush=True,
            )  # fmt: skip
            if job.progress_ppm < 500_000:
                job.progress(500_000, checkpoint_uri=f"s3://checkpoint/{job.task_id}")
            print("half", job.task_id, flush=True)
            while not Path(go_on).exists():
                time.sleep(0.02)
            solution = sha256(job.payload_sha256.encode()).hexdigest()
            job.hand_in(f"s3://solution/{job.task_id}", solution, 64)
            print("handed-in", job.task_id, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
