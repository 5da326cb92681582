"""Facts about validations and fraud cases.

The Avro schema of the same name documents each field and its unit. Pure.
"""

from __future__ import annotations

from everlode.events.base import Event, Evidence
from everlode.events.types import (
    AuditSource,
    Count,
    FraudRule,
    Id,
    Instant,
    Items,
    Ppm,
    Sha256,
    Text,
    ValidatorKind,
)


class ValidationRequested(Event):
    """A solution waits for judgement."""

    task_id: Id
    task_type: Text
    payload_sha256: Sha256
    solution_id: Id
    solution_sha256: Sha256
    planted_sha256: Sha256 | None = None
    miner_id: Id
    work_ms: Count
    base_reward_micro: Count
    kind: ValidatorKind
    quorum: Count
    reviewers: Items[Text]
    deadline_at: Instant
    solved_stamp: Count | None = None
    solution_bytes: Count | None = None


class VoteCast(Event):
    """One vote on a solution."""

    voter_id: Id
    voter_kind: ValidatorKind
    accept: bool
    score_ppm: Ppm


class ValidationEscalated(Event):
    """A higher kind of validation must decide."""

    from_kind: ValidatorKind
    to_kind: ValidatorKind
    reason: Text
    quorum: Count
    reviewers: Items[Text]
    deadline_at: Instant


class ValidationDeferred(Event):
    """Nobody can decide now; the deadline moved."""

    reason: Text
    deadline_at: Instant


class ValidationDecided(Event):
    """The solution was accepted or rejected."""

    task_id: Id
    task_type: Text
    solution_id: Id
    miner_id: Id
    kind: ValidatorKind
    accepted: bool
    score_ppm: Ppm
    votes_for: Count
    votes_against: Count
    work_ms: Count
    base_reward_micro: Count
    solved_stamp: Count | None = None


class ValidationAudited(Event):
    """A decision was compared with a higher kind or a planted known answer."""

    judged_kind: ValidatorKind
    by: AuditSource
    upheld: bool


class FraudSuspected(Event):
    """A rule found signs of fraud."""

    rule: FraudRule
    suspects: Items[Text]
    task_id: Id | None = None
    validation_id: Id | None = None
    severity_ppm: Ppm
    evidence: Items[Evidence]
    solver_id: Id | None = None


class FraudConfirmed(Event):
    """The case was found true."""

    rule: FraudRule
    suspects: Items[Text]
    task_id: Id | None = None
    decided_by: Text
    penalty_micro: Count
    evidence: Items[Evidence]
    solver_id: Id | None = None
    record_right: Count = 0
    record_wrong: Count = 0
    record_worth_micro: Count = 0


class FraudCleared(Event):
    """The suspicion was found false."""

    rule: FraudRule
    suspects: Items[Text]
    decided_by: Text
    reason: Text
    evidence: Items[Evidence] = ()
