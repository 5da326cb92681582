"""Catching up in bulk: from PostgreSQL positions to the end of every fact topic. Shell."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Protocol

from everlode.adapters.kafka import TAIL_S, Raw, Reader
from everlode.projection.fold import Prefix

BATCH = 12_000
"""Records of a partition number that make a batch: the more, the more events of one key end in
one row and one state; the fewer, the less memory."""
READ = 5_000
WAIT_S = 0.1


class Worker(Protocol):
    """What is caught up: one partition number of the topics."""

    def positions(self) -> Mapping[str, Prefix]:
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

    In one thread, while the client fetches ahead: a second would only take Python's lock from it,
    which cost more than the waits for PostgreSQL that it hid. Bounded memory. Raises: Unavailable;
    FencedOut.
    """
    reader = Reader(bootstrap, "projector-bulk", wait_ms=50)
    places = {
        (topic, p): worker.positions()[topic].next_offset
        for p, worker in workers.items()
        for topic in topics
    }
    todo = reader.unread(places)  # before reading: behind a fetch that waits an answer waits too
    reader.assign({place: places[place] for place in todo})
    began, count = time.monotonic(), 0
    waiting: dict[int, list[Raw]] = {p: [] for p in workers}
    with closing(reader), _no_collection():
        while todo:
            for raw in reader.batch(READ, WAIT_S, TAIL_S):
                waiting[raw.partition].append(raw)
            for place, position in reader.positions(todo).items():
                if position >= todo[place]:
                    del todo[place]
            for p, raws in waiting.items():
                while len(raws) >= (BATCH if todo else 1):
                    batch = raws[:BATCH]
                    del raws[:BATCH]
                    workers[p].apply(batch, counter)
                    count += len(batch)
                    progress(f"bulk: {count} records, {count / (time.monotonic() - began):.0f}/s")
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
