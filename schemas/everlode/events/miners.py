"""Facts about miners: registration, stake, reputation, performance.

The Avro schema of the same name documents each field and its unit. Pure.
"""

from __future__ import annotations

from everlode.events.base import Event
from everlode.events.types import (
    Count,
    Id,
    Items,
    Long,
    Ppm,
    ReputationReason,
    Text,
    WorkOutcome,
)


class MinerRegistered(Event):
    """A miner joined the network."""

    operator_id: Id
    endpoint: Text
    specialties: Items[Text]
    gpus: Count
    gpu_model: Text
    cpu_milli: Count
    memory_mib: Count
    max_concurrent: Count


class MinerUpdated(Event):
    """A miner changed what it offers."""

    endpoint: Text
    specialties: Items[Text]
    max_concurrent: Count


class StakeDeposited(Event):
    """Stake was added to the miner's free stake."""

    amount_micro: Count


class StakeLocked(Event):
    """Free stake was locked for one task."""

    task_id: Id
    amount_micro: Count


class StakeReleased(Event):
    """Stake locked for a task is free again."""

    task_id: Id
    amount_micro: Count


class StakeSlashed(Event):
    """Stake was taken for a confirmed fraud; locked stake first, then free."""

    case_id: Id
    task_id: Id | None = None
    amount_micro: Count
    from_locked_micro: Count


class ReputationChanged(Event):
    """The miner's reputation moved."""

    delta_ppm: Long
    reputation_ppm: Ppm
    reason: ReputationReason
    subject_id: Id


class PerformanceRecorded(Event):
    """One finished piece of work entered the miner's history."""

    task_id: Id
    outcome: WorkOutcome
    work_ms: Count
    score_ppm: Ppm
    attempt: Count = 0


class MinerSuspended(Event):
    """The miner gets no more tasks."""

    reason: Text


class MinerReinstated(Event):
    """The miner may get tasks again."""

    reason: Text
    decided_by: Text = ""


class MinerRetired(Event):
    """The miner left the network."""

    reason: Text
