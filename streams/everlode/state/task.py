"""The task: submitted, assigned, solved, validated, rewarded; or failed or cancelled.

Invariants: progress never goes back within an assignment; reports are taken from the present
miner with an attempt from `attempt_floor` to `attempt`; a migration raises the attempt, not the
floor, and uses none up; an ended task changes no more, but for being deleted; a task that waits
past its deadline is cancelled by the primary. The payout may be
known before the validation that caused it (they come on different topics), so a solved task may
be rewarded first and validated then. Pure.
"""

from __future__ import annotations

from typing import assert_never

from everlode.events import commands as c
from everlode.events import tasks as e
from everlode.events.base import Event
from everlode.events.identity import name_of
from everlode.events.states import TaskState
from everlode.events.tasktypes import check_task_type
from everlode.state.shape import (
    AGAIN,
    FINAL,
    Context,
    Decide,
    Table,
    Variants,
    by_final,
    check_name,
    deciding,
    folding,
    missing,
    refuse,
    rule,
)
from everlode.state.taskfolds import FOLDS
from everlode.state.taskreports import fail, progress, solve, used_attempts

TaskCommand = (
    c.SubmitTask
    | c.AssignTask
    | c.ReportProgress
    | c.SubmitSolution
    | c.ReportFailure
    | c.ExpireLease
    | c.ExpireTask
    | c.MigrateTask
    | c.CancelTask
    | c.DeleteTask
    | c.RecordValidation
    | c.RecordReward
)
OVERDUE = "deadline_passed"
"""Reason of the cancellation of a task that still waits at its deadline."""
ENDED = frozenset({"rewarded", "failed", "cancelled"})
TRANSITIONS: Table = {
    (e.TaskSubmitted, ""): rule([None], "submitted"),
    (e.TaskAssigned, ""): rule(["submitted"], "assigned"),
    (e.TaskProgressed, ""): rule(["assigned"]),
    (e.TaskSolved, ""): rule(["assigned"], "solved"),
    (e.TaskAttemptFailed, AGAIN): rule(["assigned"], "submitted"),
    (e.TaskAttemptFailed, FINAL): rule(["assigned"], "failed"),
    (e.TaskLeaseExpired, AGAIN): rule(["assigned"], "submitted"),
    (e.TaskLeaseExpired, FINAL): rule(["assigned"], "failed"),
    (e.TaskMigrated, ""): rule(["assigned"]),
    (e.TaskValidated, "unpaid"): rule(["solved"], "validated"),
    (e.TaskValidated, "paid"): rule(["rewarded"]),
    (e.TaskSolutionRejected, AGAIN): rule(["solved"], "submitted"),
    (e.TaskSolutionRejected, FINAL): rule(["solved"], "failed"),
    (e.TaskRewarded, ""): rule(["validated", "solved"], "rewarded"),
    (e.TaskCancelled, ""): rule(["submitted", "assigned"], "cancelled"),
    (e.TaskDeleted, ""): rule(ENDED, "deleted"),
}
VARIANTS: Variants = {
    e.TaskAttemptFailed: by_final,
    e.TaskLeaseExpired: by_final,
    e.TaskSolutionRejected: by_final,
    e.TaskValidated: lambda _, status: "paid" if status == "rewarded" else "unpaid",
}
"""Final: no attempt is left. Paid: the payout was known before the validation that caused it."""


def _decide(  # noqa: C901 - one case a command
    command: TaskCommand, state: TaskState | None, ctx: Context
) -> tuple[Event, ...]:
    if isinstance(command, c.SubmitTask):
        return _submit(command, state, ctx)
    if state is None:
        if isinstance(command, c.DeleteTask):
            return ()
        raise missing("task", ctx.aggregate_id)
    match command:
        case c.AssignTask():
            return _assign(command, state, ctx)
        case c.ReportProgress():
            return progress(command, state)
        case c.SubmitSolution():
            return solve(command, state)
        case c.ReportFailure():
            return fail(command, state)
        case c.ExpireLease():
            return _expire(command, state, ctx)
        case c.ExpireTask():
            return _overdue(state, ctx)
        case c.MigrateTask():
            return _migrate(command, state)
        case c.CancelTask():
            return _cancel(command, state)
        case c.DeleteTask():
            if state.status not in ENDED:
                raise refuse("not_ended", f"task {state.key} is {state.status}")
            return (e.TaskDeleted(reason=command.reason),)
        case c.RecordValidation():
            return _validated(command, state)
        case c.RecordReward():
            return _rewarded(command, state)
        case _:
            assert_never(command)


decide: Decide[TaskState] = deciding(TRANSITIONS, _decide, VARIANTS)
"""Events that a command causes on a task: see `shape.deciding`."""


def _submit(command: c.SubmitTask, state: TaskState | None, ctx: Context) -> tuple[Event, ...]:
    if state is not None:
        # a client that repeats it counts its deadline anew: the first one holds
        asked = {k: v for k, v in command.__dict__.items() if k != "deadline_at"}
        if all(getattr(state, name) == value for name, value in asked.items()):
            return ()
        raise refuse("exists", f"task {state.key} exists", "choose another task id")
    check_name("task", name_of(ctx.aggregate_id))
    check_task_type(command.task_type, ctx.task_types)
    if command.max_attempts < 1:
        raise refuse("bad_attempts", "max_attempts is below 1")
    if command.deadline_at <= ctx.at:
        raise refuse("deadline_passed", "the deadline is not after the submission")
    return (e.TaskSubmitted(**command.__dict__),)


def _assign(command: c.AssignTask, state: TaskState, ctx: Context) -> tuple[Event, ...]:
    if state.status == "assigned":
        have = (state.miner_id, state.manager_node, state.lease_until)
        if have == (command.miner_id, command.manager_node, command.lease_until):
            return ()
    if state.status != "submitted":
        raise refuse("not_waiting", f"task {state.key} is {state.status}")
    if ctx.at >= state.deadline_at:
        raise refuse("deadline_passed", f"task {state.key} is past its deadline")
    if command.lease_until <= ctx.at:
        raise refuse("bad_lease", "the lease ends before it begins")
    return (
        e.TaskAssigned(
            attempt=state.attempt + 1,
            miner_id=command.miner_id,
            manager_node=command.manager_node,
            lease_until=command.lease_until,
            base_reward_micro=state.base_reward_micro,
            # what the miner needs travels with the assignment: it folds no tasks
            task_type=state.task_type,
            payload_uri=state.payload_uri,
            payload_sha256=state.payload_sha256,
            payload_bytes=state.payload_bytes,
            checkpoint_uri=state.checkpoint_uri,
        ),
    )


def _expire(command: c.ExpireLease, state: TaskState, ctx: Context) -> tuple[Event, ...]:
    if state.status != "assigned" or command.attempt < state.attempt:
        return ()
    if command.attempt > state.attempt:
        raise refuse("wrong_attempt", f"the last attempt is {state.attempt}")
    if state.lease_until is None or ctx.at <= state.lease_until:
        raise refuse("lease_good", f"the lease of task {state.key} has not run out")
    return (
        e.TaskLeaseExpired(
            attempt=state.attempt,
            miner_id=state.miner_id or "",
            final=used_attempts(state) >= state.max_attempts,
        ),
    )


def _overdue(state: TaskState, ctx: Context) -> tuple[Event, ...]:
    """Only what waits ends here: an assignment is ended by its lease, a solution by its judges."""
    if state.status != "submitted":
        return ()
    if ctx.at < state.deadline_at:
        raise refuse("deadline_ahead", f"the deadline of task {state.key} has not passed")
    return (e.TaskCancelled(reason=OVERDUE),)


def _migrate(command: c.MigrateTask, state: TaskState) -> tuple[Event, ...]:
    if state.status != "assigned":
        raise refuse("not_assigned", f"task {state.key} is {state.status}")
    if state.manager_node == command.to_node:
        return ()
    if state.manager_node != command.from_node:
        raise refuse("other_manager", f"task {state.key} is managed by {state.manager_node}")
    return (
        e.TaskMigrated(
            attempt=state.attempt + 1,
            miner_id=state.miner_id or "",
            from_node=command.from_node,
            to_node=command.to_node,
            lease_until=max(
                state.lease_until or command.lease_until,
                min(command.lease_until, state.deadline_at),
            ),
        ),
    )


def _cancel(command: c.CancelTask, state: TaskState) -> tuple[Event, ...]:
    if state.status == "cancelled" and state.reason == command.reason:
        return ()
    if state.status not in {"submitted", "assigned"}:
        raise refuse("too_late", f"task {state.key} is {state.status}")
    miner = state.miner_id if state.status == "assigned" else None
    return (e.TaskCancelled(reason=command.reason, miner_id=miner),)


def _validated(command: c.RecordValidation, state: TaskState) -> tuple[Event, ...]:
    if state.validation_id == command.validation_id:
        return ()
    if state.solution_id != command.solution_id or state.status not in {"solved", "rewarded"}:
        raise refuse("not_solved", f"task {state.key} does not wait for this validation")
    if command.accepted:
        return (
            e.TaskValidated(
                validation_id=command.validation_id,
                solution_id=command.solution_id,
                miner_id=command.miner_id,
                score_ppm=command.score_ppm,
            ),
        )
    if state.status == "rewarded":
        raise refuse("already_rewarded", f"task {state.key} is rewarded")
    return (
        e.TaskSolutionRejected(
            validation_id=command.validation_id,
            solution_id=command.solution_id,
            miner_id=command.miner_id,
            final=used_attempts(state) >= state.max_attempts,
        ),
    )


def _rewarded(command: c.RecordReward, state: TaskState) -> tuple[Event, ...]:
    if state.status == "rewarded" and state.miner_id == command.miner_id:
        return ()
    if state.status not in {"validated", "solved"} or state.miner_id != command.miner_id:
        raise refuse("not_validated", f"task {state.key} is {state.status}")
    return (e.TaskRewarded(**command.__dict__),)


evolve = folding(FOLDS, TRANSITIONS, VARIANTS)
"""The task after a fact; None when it was deleted: see `shape.folding`."""
