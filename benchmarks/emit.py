"""Typed event → acknowledged: `EventProducer` against `SerializingProducer` + `AvroSerializer`.

Same schema, same data, one broker. Ours also gives `seq`, version and stamp, and writes in
transactions; the peer serialises the same model and waits for the same acknowledgement. The raw
`Producer` with ready-made bytes is the limit.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks._emit_peers import raw_producer, serializing_producer
from benchmarks.result import MIN_ROUNDS, write
from everlode.adapters.clock import WallClock, instant
from everlode.avro.codec import encode_fact
from everlode.events.base import Envelope, Fact
from everlode.events.tasks import TaskAssigned, TaskProgressed, TaskSubmitted
from everlode.sdk import Endpoints, EventProducer
from everlode.stack import NativeStack

EVENTS = 100_000
KEYS = 1000
PARTITIONS = 2
UNTIL = instant(1_900_000_000_000)


def events() -> list[tuple[str, TaskProgressed]]:
    """Keys and events, the same each time: steps of tasks at work, see `begin`."""
    return [
        (
            f"eu/task-{n % KEYS}",
            TaskProgressed(
                attempt=1,
                miner_id=miner(n % KEYS),
                progress_ppm=n % 1_000_000,
                checkpoint_uri=f"s3://checkpoints/{n}",
                lease_until=UNTIL,
            ),
        )
        for n in range(EVENTS)
    ]


def miner(task: int) -> str:
    """Who works on it."""
    return f"eu/miner-{task % 97}"


def begin(endpoints: Endpoints) -> None:
    """The tasks that the events belong to: a fact about none would leave nothing in memory."""
    with EventProducer(endpoints, "eu", "tasks", epoch=1) as producer:
        for number in range(KEYS):
            submitted = TaskSubmitted(
                client_id="c", task_type="inference", payload_uri="u", payload_sha256="0" * 64,
                payload_bytes=1, cpu_milli=1, memory_mib=1, gpus=1, gpu_milli=1,
                base_reward_micro=1, max_attempts=1, deadline_at=UNTIL,
            )  # fmt: skip
            assigned = TaskAssigned(
                attempt=1, miner_id=miner(number), manager_node="n", lease_until=UNTIL,
                base_reward_micro=1,
            )  # fmt: skip
            for fact in (submitted, assigned):
                last = producer.emit(f"eu/task-{number}", fact)
        last.result(120)


def with_envelopes(found: Sequence[tuple[str, TaskProgressed]]) -> list[Fact]:
    """The same events in envelopes, for those that do not make their own."""
    now = WallClock().event_now()
    return [
        Fact(
            Envelope(
                event_id=str(uuid.uuid4()),
                aggregate_id=key,
                version=1,
                origin="eu.1",
                scope="task-manager/eu",
                epoch=1,
                seq=number,
                stamp=number,
                occurred_at=now,
                correlation_id=key,
            ),
            data,
        )
        for number, (key, data) in enumerate(found, 1)
    ]


def ours(endpoints: Endpoints, epoch: list[int]) -> float:
    """Events a second of our producer, every one acknowledged."""
    found = events()
    epoch[0] += 1
    producer = EventProducer(endpoints, "eu", "tasks", epoch=epoch[0])
    began = time.perf_counter()
    futures = [producer.emit(key, data) for key, data in found]
    acks = {future.result(120).event_id for future in futures}
    took = time.perf_counter() - began
    producer.close()
    assert len(acks) == EVENTS
    return EVENTS / took


def main() -> None:
    """Three rounds of three, the order turning."""
    folder = Path(tempfile.mkdtemp(prefix="everlode-bench-"))
    rates: dict[str, list[float]] = {"ours": [], "serializing": [], "raw": []}
    with NativeStack.small(folder / "stack", control=False) as stack:
        endpoints = stack.up()
        bootstrap = endpoints.regions["eu"].kafka_bootstrap
        facts = with_envelopes(events())
        blobs = [(f.envelope.aggregate_id, encode_fact(*f)) for f in facts]
        begin(endpoints)
        epoch = [1]
        measures: list[tuple[str, Callable[[], float]]] = [
            ("ours", lambda: ours(endpoints, epoch)),
            ("serializing", lambda: serializing_producer(bootstrap, "eu.1.rewards", facts)),
            ("raw", lambda: raw_producer(bootstrap, "eu.1.validations", blobs)),
        ]
        for _, warm in measures:
            warm()
        for number in range(MIN_ROUNDS):
            for name, measure in measures[number:] + measures[:number]:
                rates[name].append(measure())
                print(f"{name}: {rates[name][-1]:,.0f}/s", file=sys.stderr)
    shutil.rmtree(folder)
    for name, against, theirs in (
        ("emit", "SerializingProducer + AvroSerializer, same schema and data", "serializing"),
        ("emit.raw", "the raw Producer with ready-made bytes", "raw"),
    ):
        write(name, "events/s", rates["ours"], against, rates[theirs], events=EVENTS)


if __name__ == "__main__":
    main()
