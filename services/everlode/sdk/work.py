"""Work: the tasks that are assigned to one miner, handed out one by one; the miner beats meanwhile.

How it finds them. An assignment carries all that its miner needs, and every fact about an attempt
names the miner. So the region's task facts are read on from one place, the miner's id is looked for
in the bytes, and only what holds it is decoded.
  - The place is kept in Kafka as the offsets of the group `work.<miner>`: never beyond a task that
    is held, so that a start costs what is held and the time that it was away, not the history.
  - Without one, it lies one lease back: what was assigned before has had a report since, or has
    expired. Of a task that had a report, its assignment is looked for further back, by its key.
  - What is read up to the log's end is folded first; then what is still held is handed out.
Nothing but Kafka is needed; a projection that is away, or behind, delays no work.

Invariants: a task is handed out once a start, unless it was assigned anew. Shell: one thread to
follow the log, one for heartbeats.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

from everlode.adapters.clock import Clock
from everlode.adapters.kafka import Raw, Reader
from everlode.avro.codec import Codec
from everlode.errors import Refusal
from everlode.events.base import Fact
from everlode.events.tasks import TaskAssigned, TaskSubmitted
from everlode.sdk.assignments import Assignment, Assignments
from everlode.sdk.beacon import MinerBeacon
from everlode.sdk.consumer import places
from everlode.sdk.job import Job, Reporter
from everlode.sdk.lookback import decoded, last_facts
from everlode.settings.endpoints import Endpoints
from everlode.topics.place import TopicPartition

LEASE = timedelta(hours=1)
"""Of an assignment, unless the operator of the task managers has set another."""
COMMIT_S = 15.0
CATCH_UP_S = 600.0


class Work:
    """Enter it, then iterate: each `Job` once, for ever. Iterating is for one thread at a time.

    Jobs may be worked on in any threads, as many at once as the miner has registered for.
    """

    def __init__(
        self, miner: Reporter, endpoints: Endpoints, region: str, *, clock: Clock, lease: timedelta
    ) -> None:
        """Raises: ConfigError: the region is not in the endpoints."""
        self._miner, self._clock, self.lease = miner, clock, lease
        self._places = places(endpoints, region, ["tasks"])
        self._bootstrap = endpoints.region(region).kafka_bootstrap
        self._mark = miner.miner_id.encode()
        self._codec = Codec()
        self._mine = Assignments(miner.miner_id)
        self._given: dict[str, int] = {}
        """Task that is held → offset of the assignment that was handed out."""
        self._jobs: queue.SimpleQueue[Job | Exception] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._commit_at = 0.0
        self._thread = threading.Thread(target=self._run, name="work", daemon=True)
        self._beacon = MinerBeacon(
            endpoints, region, [miner.miner_id], clock=clock,
            running=lambda _: self.running(), finished=lambda _: self._mine.solved,
        )  # fmt: skip

    # -- for its user ------------------------------------------------------------------------

    def take(self, timeout_s: float | None = None) -> Job | None:
        """The next job; None when there is none in time.

        A job that was lost while it waited here is passed over. Raises: what ended the reading.
        """
        deadline = time.monotonic() + (math.inf if timeout_s is None else timeout_s)
        while True:
            if self._stop.is_set():
                raise Refusal("the work was closed", code="closed")
            left = deadline - time.monotonic()
            try:
                found = self._jobs.get(timeout=min(0.5, max(0.0, left)))
            except queue.Empty:
                if left <= 0:
                    return None
                continue
            if isinstance(found, Exception):
                self._jobs.put(found)  # whoever asks again is told so too
                raise found
            if found.mine:
                return found

    def __iter__(self) -> Iterator[Job]:
        """The jobs, as they come. Raises: what ended the reading of the log."""
        while True:
            job = self.take()
            if job is not None:
                yield job

    def running(self) -> tuple[str, ...]:
        """Tasks that the miner holds."""
        with self._guard:
            return tuple(sorted(self._mine.held))

    def held(self, task_id: str, offset: int) -> Assignment | None:
        """The assignment at `offset`, as it is now; None when it is over. For `Job`."""
        with self._guard:
            held = self._mine.held.get(task_id)
            return held if held is not None and held.offset == offset else None

    def __enter__(self) -> Work:
        """Catch up, then hand out. Raises: Unavailable."""
        self._reader = Reader(self._bootstrap, f"work.{self._miner.miner_id}", wait_ms=200)
        try:
            self._catch_up()
        except BaseException:
            self._reader.close()
            raise
        self._thread.start()
        self._beacon.start()
        return self

    def close(self) -> None:
        """Stop reading and beating. What is held stays assigned: a later start goes on with it."""
        self._stop.set()
        self._thread.join(5)
        self._beacon.close()
        self._commit()
        self._reader.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the log -----------------------------------------------------------------------------

    def _catch_up(self) -> None:
        starts = self._starts()
        for batch in self._reader.to_ends(starts, CATCH_UP_S, go_on=True):
            self._observe(batch)
        self._hand_out()

    def _starts(self) -> dict[TopicPartition, int]:
        """See the module."""
        since_ms = self._clock.wall_ms() - int(self.lease.total_seconds() * 1000)
        by_time = self._reader.at_time(dict.fromkeys(self._places, since_ms))
        begins = self._reader.beginnings(self._places)
        kept = self._reader.committed(self._places)
        return {at: kept[at] if kept[at] > begins[at] else by_time[at] for at in self._places}

    def _observe(self, batch: list[Raw]) -> None:
        with self._guard:
            for raw in batch:
                at = raw.topic, raw.partition
                fact = None
                if raw.value is not None and self._mark in raw.value:
                    fact = decoded(self._codec, raw)
                if fact is None:
                    self._mine.passed(at, raw.offset)
                else:
                    self._mine.observe(at, raw.offset, fact)

    def _facts_back(self, at: TopicPartition, task_id: str, kind: type) -> list[tuple[int, Fact]]:
        """The task's last facts, from the last of a kind on, by a reader of its own."""
        reader = Reader(self._bootstrap, f"work.{self._miner.miner_id}.back", wait_ms=20)
        try:
            end = reader.ends([at])[at]
            return last_facts(reader, at, task_id, lambda f: isinstance(f.data, kind), end)
        finally:
            reader.close()

    def _look_back(self) -> None:
        """Fold the tasks whose assignment lies before what was read."""
        for task_id, at in list(self._mine.lacking.items()):
            found = self._facts_back(at, task_id, TaskAssigned)
            with self._guard:
                for offset, fact in found:
                    self._mine.observe(at, offset, fact)
                self._mine.lacking.pop(task_id, None)

    def _hand_out(self) -> None:
        """Queue what is held and was not handed out."""
        self._look_back()
        with self._guard:
            held = self._mine.oldest_first()
            new = [h for h in held if self._given.get(h.task_id) != h.offset]
            self._given = {h.task_id: h.offset for h in held}
        for each in new:
            whole = each if each.assigned.payload_uri is not None else self._with_payload(each)
            self._jobs.put(Job(self._miner, self, whole, self._clock))

    def _with_payload(self, held: Assignment) -> Assignment:
        """An assignment of an older version names no payload: the submission does."""
        for _, fact in self._facts_back(held.at, held.task_id, TaskSubmitted):
            if isinstance(fact.data, TaskSubmitted):
                names = ("task_type", "payload_uri", "payload_sha256", "payload_bytes")
                payload = {name: getattr(fact.data, name) for name in names}
                return held._replace(assigned=held.assigned.model_copy(update=payload))
        return held

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._observe(self._reader.batch(2000, 0.5, 0.0))
                self._hand_out()
                if time.monotonic() >= self._commit_at:
                    self._commit_at = time.monotonic() + COMMIT_S
                    self._commit()
        except Exception as error:  # noqa: BLE001 - whoever iterates is to know
            self._jobs.put(error)

    def _commit(self) -> None:
        with self._guard:
            position = self._mine.position()
        if position:
            self._reader.commit(position)
