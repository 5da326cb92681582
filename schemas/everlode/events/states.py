"""What the folds keep of each aggregate; one Avro schema each, on the compacted state topics.

Shapes: named tuples, so that a fold step is cheap; the first eight fields say which event made
the state. Amounts are millionths of a credit, `_ppm` millionths, times event time in UTC.
Invariants: never changed in place. Pure.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from everlode.events.base import Evidence, LedgerEntry


class Performance(NamedTuple):
    """One finished piece of work."""

    task_id: str
    outcome: str
    work_ms: int
    score_ppm: int
    at: datetime
    attempt: int = 0


class Vote(NamedTuple):
    """One vote."""

    voter_id: str
    voter_kind: str
    accept: bool
    score_ppm: int
    at: datetime


class Judgement(NamedTuple):
    """One comparison of a decision."""

    judged_kind: str
    by: str
    upheld: bool


class TaskState(NamedTuple):
    """A task as folded."""

    key: str
    epoch: int
    version: int
    stamp: int
    fold_version: int
    origin: str
    partition: int
    seq: int
    status: str
    home: str
    client_id: str
    task_type: str
    payload_uri: str
    payload_sha256: str
    payload_bytes: int
    cpu_milli: int
    memory_mib: int
    gpus: int
    gpu_milli: int
    base_reward_micro: int
    max_attempts: int
    deadline_at: datetime
    planted_sha256: str | None
    attempt: int
    attempt_floor: int
    migrations: int
    miner_id: str | None
    miners: tuple[str, ...]
    manager_node: str | None
    lease_until: datetime | None
    progress_ppm: int
    checkpoint_uri: str | None
    solution_id: str | None
    solution_uri: str | None
    solution_sha256: str | None
    work_ms: int
    validation_id: str | None
    score_ppm: int
    reward_micro: int
    reason: str | None
    submitted_at: datetime
    assigned_at: datetime | None
    solved_at: datetime | None
    ended_at: datetime | None


class MinerState(NamedTuple):
    """A miner as folded."""

    key: str
    epoch: int
    version: int
    stamp: int
    fold_version: int
    origin: str
    partition: int
    seq: int
    status: str
    home: str
    operator_id: str
    endpoint: str
    specialties: tuple[str, ...]
    gpus: int
    gpu_model: str
    cpu_milli: int
    memory_mib: int
    max_concurrent: int
    stake_free_micro: int
    stake_locked_micro: int
    stake_slashed_micro: int
    locks: dict[str, int]
    cases: tuple[str, ...]
    reputation_ppm: int
    accepted: int
    rejected: int
    failed: int
    expired: int
    work_ms: int
    score_sum_ppm: int
    recent: tuple[Performance, ...]
    registered_at: datetime
    reason: str | None
    deposits: tuple[str, ...] = ()
    cleared: tuple[str, ...] = ()


class ValidationState(NamedTuple):
    """A validation as folded."""

    key: str
    epoch: int
    version: int
    stamp: int
    fold_version: int
    origin: str
    partition: int
    seq: int
    status: str
    home: str
    task_id: str
    task_type: str
    payload_sha256: str
    solution_id: str
    solution_sha256: str
    planted_sha256: str | None
    miner_id: str
    work_ms: int
    base_reward_micro: int
    kind: str
    quorum: int
    reviewers: tuple[str, ...]
    deadline_at: datetime
    deferrals: int
    votes: tuple[Vote, ...]
    accepted: bool | None
    score_ppm: int
    judged: tuple[Judgement, ...]
    requested_at: datetime
    decided_at: datetime | None
    solved_stamp: int | None = None
    solution_bytes: int | None = None


class RewardState(NamedTuple):
    """A reward or a booked slash as folded."""

    key: str
    epoch: int
    version: int
    stamp: int
    fold_version: int
    origin: str
    partition: int
    seq: int
    status: str
    home: str
    task_id: str
    miner_id: str
    validation_id: str
    case_id: str | None
    base_micro: int
    score_ppm: int
    amount_micro: int
    formula: int
    payout_ref: str | None
    entries: tuple[LedgerEntry, ...]
    calculated_at: datetime
    paid_at: datetime | None
    cases: tuple[str, ...] = ()
    reduced_micro: int = 0
    debt_micro: int = 0


class FraudState(NamedTuple):
    """A fraud case as folded."""

    key: str
    epoch: int
    version: int
    stamp: int
    fold_version: int
    origin: str
    partition: int
    seq: int
    status: str
    home: str
    rule: str
    suspects: tuple[str, ...]
    task_id: str | None
    validation_id: str | None
    severity_ppm: int
    penalty_micro: int
    decided_by: str | None
    evidence: tuple[Evidence, ...]
    suspected_at: datetime
    decided_at: datetime | None
    solver_id: str | None = None
    record_right: int = 0
    record_wrong: int = 0
    record_worth_micro: int = 0


State = TaskState | MinerState | ValidationState | RewardState | FraudState
