"""What may be asked of the four primaries.

The Avro schema of the same name documents each field and its unit. Pure.
"""

from __future__ import annotations

from typing import ClassVar

from everlode.events.base import Command, Evidence, OperatorCommand, OwnCommand
from everlode.events.rewardcommands import (
    CalculateReward as CalculateReward,
)
from everlode.events.rewardcommands import (
    CollectSlash as CollectSlash,
)
from everlode.events.rewardcommands import (
    PayReward as PayReward,
)
from everlode.events.rewardcommands import (
    ReduceReward as ReduceReward,
)
from everlode.events.rewardcommands import (
    ReleaseReward as ReleaseReward,
)
from everlode.events.rewardcommands import (
    RepayDebt as RepayDebt,
)
from everlode.events.rewardcommands import (
    ReverseReward as ReverseReward,
)
from everlode.events.rewardcommands import (
    WithholdReward as WithholdReward,
)
from everlode.events.types import (
    Count,
    FraudRule,
    Id,
    Instant,
    Items,
    Ppm,
    Sha256,
    Text,
    ValidatorKind,
    WorkOutcome,
)

FRAUD = "fraud:"
"""What the reason of a suspension for fraud begins with, and no other; the rule follows."""


class SubmitTask(Command):
    """Accept a task."""

    component: ClassVar[str] = "tasks"

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


class AssignTask(OwnCommand):
    """Give a waiting task to a miner."""

    component: ClassVar[str] = "tasks"

    miner_id: Id
    manager_node: Text
    lease_until: Instant


class ReportProgress(Command):
    """A miner reports progress."""

    component: ClassVar[str] = "tasks"

    miner_id: Id
    attempt: Count
    progress_ppm: Ppm
    checkpoint_uri: Text | None = None
    lease_until: Instant


class SubmitSolution(Command):
    """A miner hands in a solution."""

    component: ClassVar[str] = "tasks"

    miner_id: Id
    attempt: Count
    solution_id: Id
    solution_uri: Text
    solution_sha256: Sha256
    solution_bytes: Count
    work_ms: Count


class ReportFailure(Command):
    """A miner gives an attempt up."""

    component: ClassVar[str] = "tasks"

    miner_id: Id
    attempt: Count
    reason: Text
    permanent: bool


class ExpireLease(OwnCommand):
    """End an attempt whose lease has run out."""

    component: ClassVar[str] = "tasks"

    attempt: Count


class ExpireTask(OwnCommand):
    """End a task that waits past its deadline."""

    component: ClassVar[str] = "tasks"


class MigrateTask(Command):
    """Give the task to another managing node."""

    component: ClassVar[str] = "tasks"

    from_node: Text
    to_node: Text
    lease_until: Instant


class CancelTask(Command):
    """Take a task back."""

    component: ClassVar[str] = "tasks"

    reason: Text


class DeleteTask(Command):
    """Remove a finished task's record."""

    component: ClassVar[str] = "tasks"

    reason: Text


class RecordValidation(OwnCommand):
    """Note what a validation decided."""

    component: ClassVar[str] = "tasks"

    validation_id: Id
    solution_id: Id
    miner_id: Id
    accepted: bool
    score_ppm: Ppm


class RecordReward(OwnCommand):
    """Note that the reward was paid."""

    component: ClassVar[str] = "tasks"

    miner_id: Id
    reward_id: Id
    amount_micro: Count


class RegisterMiner(Command):
    """Join the network."""

    component: ClassVar[str] = "miners"

    operator_id: Id
    endpoint: Text
    specialties: Items[Text]
    gpus: Count
    gpu_model: Text
    cpu_milli: Count
    memory_mib: Count
    max_concurrent: Count


class UpdateMiner(Command):
    """Change what a miner offers."""

    component: ClassVar[str] = "miners"

    endpoint: Text
    specialties: Items[Text]
    max_concurrent: Count


class DepositStake(Command):
    """Add stake."""

    component: ClassVar[str] = "miners"

    amount_micro: Count


class LockStake(OwnCommand):
    """Lock stake for a task."""

    component: ClassVar[str] = "miners"

    task_id: Id
    amount_micro: Count


class ReleaseStake(OwnCommand):
    """Free the stake locked for a task that ended without a result."""

    component: ClassVar[str] = "miners"

    task_id: Id


class RecordOutcome(OwnCommand):
    """Note how a piece of work ended: stake is released, performance and reputation move."""

    component: ClassVar[str] = "miners"

    task_id: Id
    outcome: WorkOutcome
    subject_id: Id
    work_ms: Count
    score_ppm: Ppm
    attempt: Count = 0


class SlashStake(OwnCommand):
    """Take stake for a confirmed fraud."""

    component: ClassVar[str] = "miners"

    case_id: Id
    task_id: Id | None = None
    amount_micro: Count


class RecordClearing(OwnCommand):
    """Note that a suspicion was found false: reputation moves up a little."""

    component: ClassVar[str] = "miners"

    case_id: Id


class SuspendMiner(Command):
    """Give the miner no more tasks."""

    component: ClassVar[str] = "miners"

    reason: Text


class ReinstateMiner(Command):
    """Let the miner have tasks again."""

    component: ClassVar[str] = "miners"

    reason: Text
    decided_by: Text = ""


class RetireMiner(Command):
    """Leave the network."""

    component: ClassVar[str] = "miners"

    reason: Text


class RequestValidation(OwnCommand):
    """Judge a solution."""

    component: ClassVar[str] = "validations"

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


class CastVote(Command):
    """Vote on a solution."""

    component: ClassVar[str] = "validations"

    voter_id: Id
    voter_kind: ValidatorKind
    accept: bool
    score_ppm: Ppm


class EscalateValidation(Command):
    """Let a higher kind decide."""

    component: ClassVar[str] = "validations"

    to_kind: ValidatorKind
    reason: Text
    quorum: Count
    reviewers: Items[Text]
    deadline_at: Instant


class DeferValidation(OperatorCommand):
    """Move the deadline."""

    component: ClassVar[str] = "validations"

    reason: Text
    deadline_at: Instant


class OpenFraudCase(OperatorCommand):
    """A rule found signs of fraud."""

    component: ClassVar[str] = "validations"

    rule: FraudRule
    suspects: Items[Text]
    task_id: Id | None = None
    validation_id: Id | None = None
    severity_ppm: Ppm
    evidence: Items[Evidence]
    solver_id: Id | None = None


class ResolveFraudCase(OperatorCommand):
    """Decide a fraud case."""

    component: ClassVar[str] = "validations"

    confirmed: bool
    decided_by: Text
    penalty_micro: Count
    reason: Text
    evidence: Items[Evidence]
    record_right: Count = 0
    record_wrong: Count = 0
    record_worth_micro: Count = 0
