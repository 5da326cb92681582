"""Catching up in bulk: from PostgreSQL positions to the end of every fact topic. Shell."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from everlode.adapters.kafka import TAIL_S, Raw, Reader
from everlode.projection.fold import Position

BULK = 20_000
"""Records of one batch: the more, the more events of one key end in one row and one state."""
WAIT_S = 0.1


class Worker(Protocol):
    """What is caught up: one partition number of the topics."""

    def positions(self) -> Mapping[str, Position]:
        """Where it stands, a topic each."""

    def apply(self, raws: Sequence[Raw], counter: str) -> object:
        """Apply records in order; `counter` names how they came."""


def catch_up(
    bootstrap: str,
    workers: Mapping[int, Worker],
    topics: Sequence[str],
    progress: Callable[[str], None] = lambda _: None,
    *,
    counter: str = "bulk",
) -> int:
    """Apply everything up to the ends as of now; returns how many records.

    A thread a partition number, so that one folds while another waits for PostgreSQL; bounded
    memory: one batch. Raises: Unavailable; FencedOut.
    """
    reader = Reader(bootstrap, "projector-bulk", wait_ms=50)
    places = {
        (topic, p): worker.positions()[topic].next_offset
        for p, worker in workers.items()
        for topic in topics
    }
    ends = reader.ends(places)  # before reading: behind a fetch that waits an answer waits too
    todo = {place: end for place, end in ends.items() if end > places[place]}
    reader.assign({place: places[place] for place in todo})
    began, count = time.monotonic(), 0
    with _no_collection(), ThreadPoolExecutor(max(1, len(workers))) as threads:
        while todo:
            batch = reader.batch(BULK, WAIT_S, TAIL_S)
            by_partition: dict[int, list[Raw]] = {}
            for raw in batch:
                by_partition.setdefault(raw.partition, []).append(raw)
            under_way = [
                threads.submit(workers[p].apply, raws, counter) for p, raws in by_partition.items()
            ]
            for done in under_way:
                done.result()
            count += len(batch)
            for place, position in reader.positions(todo).items():
                if position >= todo[place]:
                    del todo[place]
            if batch:
                progress(f"bulk: {count} records, {count / (time.monotonic() - began):.0f}/s")
    reader.close()
    return count


@contextmanager
def _no_collection() -> Iterator[None]:
    """No cyclic garbage collection: the work makes no cycles, and the cached states are many."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
