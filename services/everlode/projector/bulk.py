"""Catching up in bulk: from PostgreSQL positions to the end of every fact topic. Shell."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from typing import Any, Protocol

from everlode.adapters.kafka import TAIL_S, Raw, Reader
from everlode.projection.fold import Position

BATCH = 6_000
"""Records of a partition number that make a batch: the more, the more events of one key end in
one row and one state; the fewer, the less is waited for at the end."""
AHEAD = 40_000
"""Records in memory at most, read and not yet applied."""
READ = 5_000
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

    Reads ahead, and a thread a partition number, so that one folds while another waits for
    PostgreSQL; bounded memory. Raises: Unavailable; FencedOut.
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
    with closing(reader), _no_collection(), ThreadPoolExecutor(max(1, len(workers))) as threads:
        queue = _Queue(workers, threads, counter)
        while todo or queue.held:
            if todo and queue.held < AHEAD:
                queue.put(reader.batch(READ, WAIT_S, TAIL_S))
                for place, position in reader.positions(todo).items():
                    if position >= todo[place]:
                        del todo[place]
            else:
                queue.wait()
            queue.start(hurry=not todo or queue.held >= AHEAD)
            if done := queue.collect():
                count += done
                progress(f"bulk: {count} records, {count / (time.monotonic() - began):.0f}/s")
    return count


class _Queue:
    """Records that are read and not applied; at most one batch a partition number under way."""

    def __init__(self, workers: Mapping[int, Worker], threads: Executor, counter: str) -> None:
        self.held = 0
        self._workers = workers
        self._threads = threads
        self._counter = counter
        self._waiting: dict[int, list[Raw]] = {p: [] for p in workers}
        self._sizes = {p: BATCH * n // len(workers) for n, p in enumerate(workers, 1)}
        self._under_way: dict[Future[Any], tuple[int, int]] = {}

    def put(self, raws: list[Raw]) -> None:
        """Add records, in the order of their partitions."""
        for raw in raws:
            self._waiting[raw.partition].append(raw)
        self.held += len(raws)

    def start(self, *, hurry: bool) -> None:
        """Start what makes a batch, in a hurry anything, where none is under way.

        The first batches differ in size: numbers that step together would all fold, and then all
        wait for PostgreSQL, at the same time.
        """
        busy = {p for p, _ in self._under_way.values()}
        for p, raws in self._waiting.items():
            if p not in busy and len(raws) >= (1 if hurry else self._sizes[p]):
                batch, self._waiting[p] = raws[: self._sizes[p]], raws[self._sizes[p] :]
                self._sizes[p] = BATCH
                done = self._threads.submit(self._workers[p].apply, batch, self._counter)
                self._under_way[done] = (p, len(batch))

    def wait(self) -> None:
        """Until a batch is done, when one is under way."""
        wait(self._under_way, return_when=FIRST_COMPLETED)

    def collect(self) -> int:
        """How many records have been applied since; raises what applying them raised."""
        count = 0
        for done in [d for d in self._under_way if d.done()]:
            _, records = self._under_way.pop(done)
            done.result()
            count += records
        self.held -= count
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
