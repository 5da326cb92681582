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
from everlode.events.tasks import TaskProgressed
from everlode.sdk import Endpoints, EventProducer
from everlode.stack import NativeStack

EVENTS = 100_000
KEYS = 1000
PARTITIONS = 2


def events() -> list[tuple[str, TaskProgressed]]:
    """Keys and events, the same each time."""
    until = instant(1_900_000_000_000)
    return [
        (
            f"eu/task-{n % KEYS}",
            TaskProgressed(
                attempt=1,
                miner_id=f"eu/miner-{n % 97}",
                progress_ppm=n % 1_000_000,
                checkpoint_uri=f"s3://checkpoints/{n}",
                lease_until=until,
            ),
        )
        for n in range(EVENTS)
    ]


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
        epoch = [0]
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
