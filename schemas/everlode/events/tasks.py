"""Facts about tasks.

The Avro schema of the same name documents each field and its unit. Pure.
"""

from __future__ import annotations

from everlode.events.base import Event
from everlode.events.types import (
    Count,
    Id,
    Instant,
    Ppm,
    Sha256,
    Text,
)


class TaskSubmitted(Event):
    """A client's task was accepted."""

    client_id: Id
    task_type: Text
    payload_uri: Text
    payload_sha256: Sha256
    payload_bytes: Count
    cpu_milli: Count
    memory_mib: Count
    gpus: Count
    gpu_milli: Count
    base_reward_micro: Count
    max_attempts: Count
    deadline_at: Instant
    planted_sha256: Sha256 | None = None


class TaskAssigned(Event):
    """The task was given to a miner, under a managing node, for one attempt."""

    attempt: Count
    miner_id: Id
    manager_node: Text
    lease_until: Instant
    base_reward_micro: Count
    task_type: Text | None = None
    payload_uri: Text | None = None
    payload_sha256: Sha256 | None = None
    payload_bytes: Count | None = None
    checkpoint_uri: Text | None = None


class TaskProgressed(Event):
    """The miner reported progress; it never goes back within an assignment."""

    attempt: Count
    miner_id: Id
    progress_ppm: Ppm
    checkpoint_uri: Text | None = None
    lease_until: Instant


class TaskSolved(Event):
    """The miner handed in a solution."""

    attempt: Count
    miner_id: Id
    solution_id: Id
    solution_uri: Text
    solution_sha256: Sha256
    solution_bytes: Count
    work_ms: Count
    task_type: Text
    payload_sha256: Sha256
    payload_bytes: Count
    planted_sha256: Sha256 | None = None
    base_reward_micro: Count


class TaskAttemptFailed(Event):
    """The miner gave the attempt up."""

    attempt: Count
    miner_id: Id
    reason: Text
    final: bool


class TaskLeaseExpired(Event):
    """The miner was silent beyond its lease; the task waits again."""

    attempt: Count
    miner_id: Id
    final: bool


class TaskMigrated(Event):
    """The managing node was lost; another looks after the task, under a new attempt."""

    attempt: Count
    miner_id: Id
    from_node: Text
    to_node: Text
    lease_until: Instant


class TaskValidated(Event):
    """A validation accepted the solution."""

    validation_id: Id
    solution_id: Id
    miner_id: Id
    score_ppm: Ppm


class TaskSolutionRejected(Event):
    """A validation rejected the solution."""

    validation_id: Id
    solution_id: Id
    miner_id: Id
    final: bool


class TaskRewarded(Event):
    """The reward for the accepted solution was paid."""

    miner_id: Id
    reward_id: Id
    amount_micro: Count


class TaskCancelled(Event):
    """The client or an operator took the task back."""

    reason: Text
    miner_id: Id | None = None


class TaskDeleted(Event):
    """The task's record is removed; a tombstone follows in the state topic."""

    reason: Text
