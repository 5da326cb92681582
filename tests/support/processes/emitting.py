"""A program with a scope of its own, for tests that kill it: it emits, and prints each Ack.

`python -m tests.support.processes.emitting STACK EPOCH`. Of four rewards three are paid, and one in
ten facts is of a reward that nobody calculated: such a one has no state. Its snapshots are written
twice a second.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future

from everlode.events.rewards import RewardCalculated, RewardPaid, RewardWithheld
from everlode.sdk import Ack, Endpoints, EventProducer
from tests.support.processes.often import write_snapshots_often


def main(stack: str, epoch: str) -> None:
    """Until it is killed."""
    write_snapshots_often()
    with EventProducer(Endpoints.load(stack), "eu", "rewards", epoch=int(epoch)) as producer:
        number = 0
        while True:
            acks: list[Future[Ack]] = []
            for _ in range(20):
                number += 1
                task, miner = f"eu/own-{epoch}-{number}", "m"
                key = f"{task}|{miner}"
                if number % 10 == 0:
                    acks.append(producer.emit(key, RewardWithheld(case_id="c", reason="r")))
                    continue
                owed = RewardCalculated(
                    task_id=task, miner_id=miner, validation_id="v", base_micro=1,
                    score_ppm=1_000_000, amount_micro=1, formula=1, entries=(),
                )  # fmt: skip
                paid = RewardPaid(
                    task_id=task, miner_id=miner, amount_micro=1, payout_key=key, payout_ref="r",
                    entries=(),
                )  # fmt: skip
                acks.append(producer.emit(key, owed))
                if number % 4:
                    acks.append(producer.emit(key, paid))
            for ack in acks:
                print(*ack.result(), flush=True)
            time.sleep(0.15)  # each of them is looked up singly afterwards


if __name__ == "__main__":
    main(*sys.argv[1:3])
