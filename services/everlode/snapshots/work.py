"""What each miner has of a component's tasks, as records of the topic that it reads. Pure.

      task t: assigned to a, attempt 1      a|t  AssignedTask(attempt 1)        partition of a
              progressed, migrated          a|t  AssignedTask(attempt 2, …)     partition of a
              expired                       a|t  -                              partition of a
              assigned to b                 b|t  AssignedTask(attempt 3)        partition of b

Invariants: a record is whole, so the newest of a key is all that its miner needs; a change that
concerns no miner makes none, and neither does a report that prolongs the lease alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from everlode.adapters.kafka import Record
from everlode.avro.cloudevents import CONTENT_TYPE
from everlode.avro.snapshots import encode_snapshot
from everlode.events.snapshots import AssignedTask, work_key
from everlode.events.states import State, TaskState
from everlode.topics.partition import partition_of

Change = tuple[State | None, State | None]
"""An aggregate before and after the facts of a transaction."""


def assigned(state: State | None) -> AssignedTask | None:
    """What its miner has to know of a task; None while no miner has it."""
    if not isinstance(state, TaskState) or state.status != "assigned" or state.miner_id is None:
        return None
    return AssignedTask(
        state.key,
        state.miner_id,
        state.attempt_floor,
        state.attempt,
        state.task_type,
        state.payload_uri,
        state.payload_sha256,
        state.payload_bytes,
        state.progress_ppm,
        state.checkpoint_uri,
        state.assigned_at or state.submitted_at,
    )


def records(topic: str, partitions: int, changes: Iterable[Change]) -> Iterator[Record]:
    """What the miners have to know of these changes, in their order."""
    for old, new in changes:
        was, now = assigned(old), assigned(new)
        if was is not None and (now is None or now.miner_id != was.miner_id):
            key = work_key(was.miner_id, was.task_id)
            yield record(topic, partition_of(was.miner_id, partitions), key, None)
        if now is not None and now != was:
            key = work_key(now.miner_id, now.task_id)
            yield record(topic, partition_of(now.miner_id, partitions), key, now)


def record(topic: str, partition: int, key: bytes, work: AssignedTask | None) -> Record:
    """A record of the topic; without `work` a tombstone."""
    if work is None:
        return Record(topic, partition, key, None, [])
    headers = [("content-type", CONTENT_TYPE)]
    return Record(topic, partition, key, encode_snapshot(work), headers)
