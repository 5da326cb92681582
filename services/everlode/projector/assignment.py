"""The partition numbers that are assigned to a projector, over rebalances.

A number that was lost and comes back is taken over as if it were new: a new owner in PostgreSQL,
new transactions, positions read again, nothing kept in memory, and a catch-up to the log's end. A
worker whose ownership PostgreSQL still confirms is kept. Records of a number that is not assigned
here are let go: its owner reads them by its own position. Shell; from any thread: calls for one
number take turns, those for different ones may overlap.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from everlode.adapters.kafka import Raw
from everlode.errors import FencedOut
from everlode.projector.worker import PartitionWorker
from everlode.telemetry.entries import PartitionLost, PartitionTaken
from everlode.telemetry.sink import Sink, silent

RETAKE_S = 20.0
"""A number that another took and that is still assigned here is taken back after this long.

Longer than a session: a projector that was stopped and wakes first learns that the group went on.
"""


class Assignment:
    """Workers by partition number."""

    def __init__(
        self,
        make: Callable[[int], PartitionWorker],
        catch_up: Callable[[Mapping[int, PartitionWorker]], int],
        report: Sink = silent,
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`make` takes a number over; `catch_up` brings workers to the ends of their logs."""
        self._make = make
        self._catch_up = catch_up
        self._report = report
        self._now_s = now_s
        self._guard = threading.Lock()
        self._turns: dict[int, threading.Lock] = {}
        """Number → held by what works on it."""
        self._workers: dict[int, PartitionWorker] = {}
        self._assigned: frozenset[int] = frozenset()
        self._lost: dict[int, float] = {}
        """Number → when another was found to own it."""

    def worker(self, partition: int) -> PartitionWorker:
        """The worker of a number; takes it over the first time. Raises: Unavailable."""
        with self._guard:
            found = self._workers.get(partition)
        if found is None:
            found = self._make(partition)
            with self._guard:
                self._workers[partition] = found
        return found

    def positions(self) -> dict[tuple[str, int], int]:
        """(topic, number) → offset of the next record, as far as it is written, of all held."""
        with self._guard:
            held = dict(self._workers)
        return {
            (topic, number): offset
            for number, worker in held.items()
            for topic, offset in worker.written().items()
        }

    def assign(self, numbers: Collection[int]) -> set[int]:
        """These and no others from now on; returns the numbers to `reconcile`. Never waits."""
        with self._guard:
            self._assigned = frozenset(numbers)
            self._lost.clear()
            return set(numbers) | set(self._workers)

    def reconcile(self, partition: int) -> None:
        """Take the number over if it is assigned, give it up if not. Idempotent.

        Raises: Unavailable.
        """
        with self._turn(partition):
            self._reconcile(partition)

    def _reconcile(self, partition: int) -> None:
        self._lost.pop(partition, None)
        found = self._workers.get(partition)
        if found is not None and (partition not in self._assigned or not found.owns()):
            self._drop(partition)
            found = None
        if found is None and partition in self._assigned:
            try:
                count = self._catch_up({partition: self.worker(partition)})
            except FencedOut:
                self._lose(partition)
            else:
                self._report(PartitionTaken(partition, count))

    def apply(self, partition: int, raws: Sequence[Raw], counter: str) -> int:
        """Apply records of a number in order; returns how many, 0 when it is not assigned.

        Raises: Unavailable.
        """
        with self._turn(partition):
            return self._apply(partition, raws, counter)

    def read_back(self, partition: int, topic: str, position: int) -> int | None:
        """Read a number on to the ends of its logs, if it still stands at that place.

        Returns how many records, or None when it has moved or is another's. Raises: Unavailable.
        """
        with self._turn(partition):
            worker = self._workers.get(partition)
            if worker is None or worker.written()[topic] != position:
                return None
            try:
                return self._catch_up({partition: worker})
            except FencedOut:
                self._lose(partition)
                return None

    def _turn(self, partition: int) -> threading.Lock:
        with self._guard:
            return self._turns.setdefault(partition, threading.Lock())

    def _apply(self, partition: int, raws: Sequence[Raw], counter: str) -> int:
        if partition not in self._assigned:
            return 0
        since = self._lost.get(partition)
        if since is not None and self._now_s() - since < RETAKE_S:
            return 0
        try:
            if since is not None:
                self._reconcile(partition)
            self.worker(partition).apply(raws, counter)
        except FencedOut:
            self._lose(partition)
            return 0
        return len(raws)

    def _lose(self, partition: int) -> None:
        self._report(PartitionLost(partition))
        self._lost[partition] = self._now_s()
        self._drop(partition)

    def _drop(self, partition: int) -> None:
        with self._guard:
            found = self._workers.pop(partition, None)
        if found is not None:
            found.close()
