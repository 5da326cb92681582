"""The task's folds, one an event. Pure."""

from __future__ import annotations

from everlode.events import tasks as e
from everlode.events.base import Fact
from everlode.events.states import TaskState
from everlode.state.shape import Folds, Head, home_of, step


def _on_submitted(_: TaskState | None, fact: Fact, head: Head) -> TaskState:
    data: e.TaskSubmitted = fact.data  # type: ignore[assignment]
    return TaskState(
        *head,
        home=home_of(fact.envelope),
        **data.__dict__,
        attempt=0,
        attempt_floor=0,
        migrations=0,
        miner_id=None,
        miners=(),
        manager_node=None,
        lease_until=None,
        progress_ppm=0,
        checkpoint_uri=None,
        solution_id=None,
        solution_uri=None,
        solution_sha256=None,
        work_ms=0,
        validation_id=None,
        score_ppm=0,
        reward_micro=0,
        reason=None,
        submitted_at=fact.envelope.occurred_at,
        assigned_at=None,
        solved_at=None,
        ended_at=None,
    )


def _on_assigned(state: TaskState, fact: Fact, head: Head) -> TaskState:
    data: e.TaskAssigned = fact.data  # type: ignore[assignment]
    known = data.miner_id in state.miners
    return step(
        state,
        head,
        attempt=data.attempt,
        attempt_floor=data.attempt,
        miner_id=data.miner_id,
        miners=state.miners if known else (*state.miners, data.miner_id),
        manager_node=data.manager_node,
        lease_until=data.lease_until,
        progress_ppm=0,
        assigned_at=fact.envelope.occurred_at,
        reason=None,
    )


def _on_progressed(state: TaskState, fact: Fact, head: Head) -> TaskState:
    data: e.TaskProgressed = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        progress_ppm=data.progress_ppm,
        checkpoint_uri=data.checkpoint_uri or state.checkpoint_uri,
        lease_until=data.lease_until,
    )


def _on_solved(state: TaskState, fact: Fact, head: Head) -> TaskState:
    data: e.TaskSolved = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        lease_until=None,
        solution_id=data.solution_id,
        solution_uri=data.solution_uri,
        solution_sha256=data.solution_sha256,
        work_ms=data.work_ms,
        solved_at=fact.envelope.occurred_at,
    )


def _attempt_over(
    state: TaskState, fact: Fact, head: Head, reason: str, **more: object
) -> TaskState:
    return step(
        state,
        head,
        lease_until=None,
        manager_node=None,
        reason=reason,
        ended_at=fact.envelope.occurred_at if fact.data.final else None,  # type: ignore[attr-defined]
        **more,
    )


def _on_attempt_failed(state: TaskState, fact: Fact, head: Head) -> TaskState:
    data: e.TaskAttemptFailed = fact.data  # type: ignore[assignment]
    return _attempt_over(state, fact, head, data.reason)


def _on_lease_expired(state: TaskState, fact: Fact, head: Head) -> TaskState:
    return _attempt_over(state, fact, head, "lease_expired")


def _on_rejected(state: TaskState, fact: Fact, head: Head) -> TaskState:
    data: e.TaskSolutionRejected = fact.data  # type: ignore[assignment]
    return _attempt_over(
        state,
        fact,
        head,
        "solution_rejected",
        validation_id=data.validation_id,
        score_ppm=0,
        checkpoint_uri=None,  # what led to a bad solution is no place to go on from
    )


def _on_migrated(state: TaskState, fact: Fact, head: Head) -> TaskState:
    data: e.TaskMigrated = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        attempt=data.attempt,
        migrations=state.migrations + 1,
        manager_node=data.to_node,
        lease_until=data.lease_until,
    )


def _on_validated(state: TaskState, fact: Fact, head: Head) -> TaskState:
    data: e.TaskValidated = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        validation_id=data.validation_id,
        score_ppm=data.score_ppm,
    )


def _on_rewarded(state: TaskState, fact: Fact, head: Head) -> TaskState:
    data: e.TaskRewarded = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        reward_micro=data.amount_micro,
        ended_at=fact.envelope.occurred_at,
    )


def _on_cancelled(state: TaskState, fact: Fact, head: Head) -> TaskState:
    data: e.TaskCancelled = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        lease_until=None,
        reason=data.reason,
        ended_at=fact.envelope.occurred_at,
    )


def _on_deleted(_state: TaskState, _fact: Fact, _head: Head) -> None:
    return None


FOLDS: Folds[TaskState] = {
    e.TaskSubmitted: _on_submitted,
    e.TaskAssigned: _on_assigned,
    e.TaskProgressed: _on_progressed,
    e.TaskSolved: _on_solved,
    e.TaskAttemptFailed: _on_attempt_failed,
    e.TaskLeaseExpired: _on_lease_expired,
    e.TaskMigrated: _on_migrated,
    e.TaskValidated: _on_validated,
    e.TaskSolutionRejected: _on_rejected,
    e.TaskRewarded: _on_rewarded,
    e.TaskCancelled: _on_cancelled,
    e.TaskDeleted: _on_deleted,
}
"""Total over the facts of `.tasks`; a test compares it with the catalogue."""
