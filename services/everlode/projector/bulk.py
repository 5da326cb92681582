"""Catching up in bulk: from PostgreSQL positions to the end of every fact topic. Shell."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from everlode.adapters.kafka import Raw, Reader
from everlode.projector.worker import PartitionWorker

BULK = 5000


def catch_up(
    bootstrap: str,
    workers: Mapping[int, PartitionWorker],
    topics: list[str],
    progress: Callable[[str], None] = lambda _: None,
) -> int:
    """Apply everything up to the ends as of now; returns how many records.

    Bounded memory: one batch. Raises: Unavailable; FencedOut.
    """
    reader = Reader(bootstrap, "projector-bulk", wait_ms=50)
    places = {
        (topic, p): worker.positions()[topic].next_offset
        for p, worker in workers.items()
        for topic in topics
    }
    reader.assign(places)
    ends = reader.ends(places)
    todo = {place: end for place, end in ends.items() if end > places[place]}
    began, count = time.monotonic(), 0
    while todo:
        batch = reader.batch(BULK, 0.2)
        by_partition: dict[int, list[Raw]] = {}
        for raw in batch:
            by_partition.setdefault(raw.partition, []).append(raw)
        for partition, raws in by_partition.items():
            workers[partition].apply(raws, "bulk")
        count += len(batch)
        for place, position in reader.positions(todo).items():
            if position >= todo[place]:
                del todo[place]
        if batch and count % (BULK * 4) < BULK:
            progress(f"bulk: {count} records, {count / (time.monotonic() - began):.0f}/s")
    reader.close()
    return count
