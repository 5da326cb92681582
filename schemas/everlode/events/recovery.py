"""The closed catalogue of operations: started, step, ended; and what became of dead letters.

The Avro schema of the same name documents each field and its unit. Pure.
"""

from __future__ import annotations

from everlode.events.base import Event, Evidence
from everlode.events.types import (
    AIComponent,
    BackupType,
    Count,
    Id,
    Instant,
    Items,
    Long,
    OperationKind,
    Ppm,
    RecoveryAction,
    StepName,
    StepOutcome,
    Text,
    ValidatorKind,
)


class OperationStarted(Event):
    """A failover, backup, recovery or drill began."""

    kind: OperationKind
    region: Text
    subject: Text
    scope_name: Text
    scope_epoch: Count
    evidence: Items[Evidence]


class OperationStep(Event):
    """One step ended."""

    kind: OperationKind
    number: Count
    step: StepName
    subject: Text = ""
    outcome: StepOutcome
    detail: Text
    duration_ms: Count
    count: Count = 0


class RegistryChanged(Event):
    """Another registry serves a scope; for its miners."""

    scope_name: Text
    scope_epoch: Count
    region: Text
    from_node: Text
    to_node: Text
    endpoint: Text


class TaskManagerRecoveryEnded(Event):
    """The handler of a failed task manager ended."""

    failed_node: Text
    recovery_action: RecoveryAction
    new_primary: Text | None = None
    target_region: Text | None = None
    migrated_tasks: Count
    estimated_recovery_ms: Count | None = None
    actual_recovery_ms: Count
    detect_ms: Count
    success: bool
    estimate_cases: Count = 0


class RegistryRecoveryEnded(Event):
    """The handler of a failed miner registry ended."""

    failed_registry: Text
    backup_registry: Text
    affected_miners: Count
    data_sync_completed: bool
    actual_recovery_ms: Count
    success: bool
    estimated_recovery_ms: Count | None = None
    estimate_cases: Count = 0


class ValidationRecoveryEnded(Event):
    """The handler of a failed validator ended."""

    failed_validator: Text
    validator_type: ValidatorKind
    redistributed_tasks: Count
    estimated_delay_ms: Count | None = None
    actual_recovery_ms: Count
    success: bool
    estimated_recovery_ms: Count | None = None
    estimate_cases: Count = 0
    deferred_tasks: Count = 0


class ValidationDelayMeasured(Event):
    """All that waited when the handler of a failed validator ended is decided."""

    failed_validator: Text
    validator_type: ValidatorKind
    estimated_delay_ms: Count
    actual_delay_ms: Count


class RewardRecoveryEnded(Event):
    """The handler of a failed reward distributor ended."""

    failed_distributor: Text
    new_primary: Text | None = None
    pending_payouts: Count
    actual_recovery_ms: Count
    success: bool
    estimated_recovery_ms: Count | None = None
    estimate_cases: Count = 0


class BackupEnded(Event):
    """A backup ended."""

    backup_id: Id
    backup_type: BackupType
    bytes: Count
    records: Count
    cut_stamp: Count
    manifest_sha256: Text
    verified: bool
    success: bool


class ComponentRecoveryEnded(Event):
    """One component of a recovery ended."""

    component: AIComponent
    success: bool
    recovery_time_ms: Count
    records_restored: Count
    events_replayed: Count
    data_loss_events: Count
    data_loss_ms: Count
    lost_event_ids: Items[Text]


class RecoveryEnded(Event):
    """A recovery ended."""

    plan_name: Text
    start_time: Instant
    end_time: Instant
    overall_success: bool
    held: bool
    components: Items[Text]
    system_health_ppm: Ppm
    estimated_data_loss_ms: Count
    generation: Count


class DrillEnded(Event):
    """A drill ended."""

    disaster: Text
    success: bool
    report_uri: Text


class HealingStarted(Event):
    """A process that had ended is being started again."""

    process: Text
    process_kind: Text
    attempt: Count
    exit_status: Long | None = None
    waited_ms: Count


class HealingSucceeded(Event):
    """A process that had ended serves again."""

    process: Text
    process_kind: Text
    attempts: Count
    lost_ms: Count


class HealingGivenUp(Event):
    """A process keeps ending and is not started any more."""

    process: Text
    process_kind: Text
    attempts: Count
    window_ms: Count
    exit_status: Long | None = None
    reason: Text


class DeadLetterReplayed(Event):
    """A dead letter's record was put back into its topic, once."""

    consumer: Text
    topic: Text
    partition: Count
    offset: Long
    code: Text
    letter_offset: Count
    operator: Text
    reason: Text


class DeadLetterDiscarded(Event):
    """An operator will not have a dead letter replayed; the letter is kept."""

    consumer: Text
    topic: Text
    partition: Count
    offset: Long
    code: Text
    letter_offset: Count
    operator: Text
    reason: Text
