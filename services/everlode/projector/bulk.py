"""Catching up in bulk: from PostgreSQL positions to the end of every fact topic. Shell."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Protocol

from everlode.adapters.kafka import TAIL_S, Raw, Reader
from everlode.adapters.processor import uncollected
from everlode.errors import Unavailable
from everlode.projection.fold import Prefix
from everlode.telemetry.entries import Progress
from everlode.telemetry.sink import Sink, silent

BATCH = 12_000
"""Records of a partition number that make a batch: the more, the more events of one key end in
one row and one state; the fewer, the less memory."""
READ = 5_000
WAIT_S = 0.1
STILL_S = 60.0
"""How long nothing may come before a catch-up ends with the place; what is done with what came
does not count."""


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
    report: Sink = silent,
    *,
    counter: str = "bulk",
    reader: Reader | None = None,
) -> int:
    """Apply everything up to the ends as of now; returns how many records.

    In one thread, while the client fetches ahead: a second would only take Python's lock from it,
    which cost more than the waits for PostgreSQL that it hid. `reader`: one that is assigned
    nothing, and is not when it is done. Bounded memory. Raises: Unavailable: also when nothing came
    for STILL_S; FencedOut.
    """
    with ExitStack() as opened, uncollected():
        if reader is None:
            reader = opened.enter_context(closing(Reader(bootstrap, "projector-bulk", wait_ms=50)))
        opened.callback(reader.assign, {})
        return _catch_up(reader, workers, topics, report, counter)


def _catch_up(
    reader: Reader,
    workers: Mapping[int, Worker],
    topics: Sequence[str],
    report: Sink,
    counter: str,
) -> int:
    starts = {
        (topic, p): worker.positions()[topic].next_offset
        for p, worker in workers.items()
        for topic in topics
    }
    todo = reader.unread(starts)  # before reading: a fetch that waits would hold the answer up
    reader.assign({at: starts[at] for at in todo})
    began, count = time.monotonic(), 0
    came = began
    before: dict[tuple[str, int], int] = {}
    waiting: dict[int, list[Raw]] = {p: [] for p in workers}
    while todo:
        for raw in reader.batch(READ, WAIT_S, TAIL_S):
            waiting[raw.partition].append(raw)
        there = reader.positions(todo)
        if there != before:
            before, came = there, time.monotonic()
        for at, position in there.items():
            if position >= todo[at]:
                del todo[at]
        for p, raws in waiting.items():
            while len(raws) >= (BATCH if todo else 1):
                batch = raws[:BATCH]
                del raws[:BATCH]
                workers[p].apply(batch, counter)
                count += len(batch)
                came = time.monotonic()
                report(Progress("bulk", count, rate=count / (came - began)))
        if todo and time.monotonic() - came > STILL_S:
            topic, number = min(todo)
            raise Unavailable(
                f"catching up: nothing came for {STILL_S:.0f} s of {topic}/{number}, read to "
                f"offset {there[topic, number]} of {todo[topic, number]}"
            )
    return count
