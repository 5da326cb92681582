"""Work: the tasks that are assigned to one miner, handed out one by one; the miner beats meanwhile.

How it finds them. The primary of tasks keeps what each miner has on `work.<origin>`, in the
transactions of its facts: a whole record for each task that a miner has, a tombstone once it has it
no more (see `snapshots.work`). A miner reads the one partition that its name falls into, and no
task facts.
  - The place is kept in Kafka as the offset of the group `work.<miner>`: never beyond the newest
    record of a task that is held, so that a start costs what is held and the time away.
  - Without one, the partition is read from its beginning: it is compacted, so that is what its
    miners have, and what ended lately.
  - What is read up to the end is taken in first; then what is still held is handed out.
Nothing but Kafka is needed; a projection that is away, or behind, delays no work.

Invariants: a task is handed out once a start, unless it was assigned anew. Shell: one thread to
follow the topic, one for heartbeats.
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
from everlode.avro.snapshots import decode_snapshot
from everlode.errors import ContractError, Refusal
from everlode.events.snapshots import AssignedTask
from everlode.sdk.assignments import Assignments
from everlode.sdk.beacon import MinerBeacon
from everlode.sdk.job import Job, Reporter
from everlode.settings.endpoints import Endpoints
from everlode.topics.names import work_topic
from everlode.topics.partition import partition_of
from everlode.topics.place import TopicPartition

LEASE = timedelta(hours=1)
"""By which a report prolongs an assignment, unless something else is asked for."""
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
        parts = endpoints.parts(region)
        self._at: TopicPartition = (
            work_topic(parts.origin), partition_of(miner.miner_id, parts.partitions),
        )  # fmt: skip
        self._bootstrap = parts.bootstrap
        self._codec = Codec()
        self._mine = Assignments(miner.miner_id)
        self._given: dict[str, int] = {}
        """Task that is held → first attempt of the assignment that was handed out."""
        self._finished = 0
        self._jobs: queue.SimpleQueue[Job | Exception] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._commit_at = 0.0
        self._thread = threading.Thread(target=self._run, name="work", daemon=True)
        self._beacon = MinerBeacon(
            endpoints, region, [miner.miner_id], clock=clock,
            running=lambda _: self.running(), finished=lambda _: self._finished,
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
        """The jobs, as they come. Raises: what ended the reading."""
        while True:
            job = self.take()
            if job is not None:
                yield job

    def running(self) -> tuple[str, ...]:
        """Tasks that the miner holds."""
        with self._guard:
            return tuple(sorted(self._mine.held))

    def held(self, task_id: str, first_attempt: int) -> AssignedTask | None:
        """What was assigned under that attempt, as it is now; None when it is over. For `Job`."""
        with self._guard:
            held = self._mine.held.get(task_id)
            return held if held is not None and held.first_attempt == first_attempt else None

    def handed_in(self) -> None:
        """A job was handed in. For `Job`."""
        with self._guard:
            self._finished += 1

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

    # -- the topic ---------------------------------------------------------------------------

    def _catch_up(self) -> None:
        start = self._reader.committed([self._at])
        for batch in self._reader.to_ends(start, CATCH_UP_S, go_on=True):
            self._observe(batch)
        self._hand_out()

    def _observe(self, batch: list[Raw]) -> None:
        """Raises: ContractError: a record of this miner cannot be read."""
        with self._guard:
            for raw in batch:
                if raw.key is None or not self._mine.is_mine(raw.key):
                    self._mine.passed(raw.offset)
                    continue
                work = None if raw.value is None else decode_snapshot(self._codec, raw.value)
                if work is not None and not isinstance(work, AssignedTask):
                    raise ContractError(
                        f"{raw.topic}/{raw.partition}@{raw.offset}: no assigned task",
                        code="wrong_topic",
                    )
                self._mine.observe(raw.offset, raw.key, work)

    def _hand_out(self) -> None:
        """Queue what is held and was not handed out."""
        with self._guard:
            held = self._mine.oldest_first()
            new = [h for h in held if self._given.get(h.task_id) != h.first_attempt]
            self._given = {h.task_id: h.first_attempt for h in held}
        for each in new:
            self._jobs.put(Job(self._miner, self, each, self._clock))

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
            position = self._mine.position
        if position:
            self._reader.commit({self._at: position})
