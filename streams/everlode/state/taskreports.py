"""A task's rules for what its miner reports: progress, a solution, a failure.

Invariant: a report changes nothing, and is answered as a repeat, only when all that it asks for is
so already, for the attempt that it names; else it is carried out or refused. Pure.
"""

from __future__ import annotations

from everlode.events import commands as c
from everlode.events import tasks as e
from everlode.events.base import Event
from everlode.events.states import TaskState
from everlode.state.shape import check_name, refuse


def used_attempts(state: TaskState) -> int:
    """Attempts that count against `max_attempts`; migrations are not the miner's fault."""
    return state.attempt - state.migrations


def _is_of_last(state: TaskState, attempt: int) -> bool:
    """True for an attempt of the last assignment."""
    return state.attempt_floor <= attempt <= state.attempt


def _present(state: TaskState, miner_id: str, attempt: int) -> None:
    """Refuse a report that is not from the present assignment."""
    if state.status != "assigned":
        raise refuse("not_assigned", f"task {state.key} is {state.status}")
    if miner_id != state.miner_id:
        raise refuse("wrong_miner", f"task {state.key} is with another miner")
    if not _is_of_last(state, attempt):
        raise refuse(
            "wrong_attempt",
            f"attempt {attempt} is not in {state.attempt_floor} to {state.attempt}",
        )


def progress(command: c.ReportProgress, state: TaskState) -> tuple[Event, ...]:
    _present(state, command.miner_id, command.attempt)
    if command.progress_ppm < state.progress_ppm:
        raise refuse("progress_back", f"progress is already {state.progress_ppm} ppm")
    # a miner may ask for a longer lease, up to the deadline; never for a shorter one
    lease_until = max(
        state.lease_until or command.lease_until, min(command.lease_until, state.deadline_at)
    )
    new = (command.progress_ppm, command.checkpoint_uri or state.checkpoint_uri, lease_until)
    if new == (state.progress_ppm, state.checkpoint_uri, state.lease_until):
        return ()
    return (
        e.TaskProgressed(
            attempt=command.attempt,
            miner_id=command.miner_id,
            progress_ppm=command.progress_ppm,
            checkpoint_uri=command.checkpoint_uri,
            lease_until=lease_until,
        ),
    )


def solve(command: c.SubmitSolution, state: TaskState) -> tuple[Event, ...]:
    if state.status != "assigned" and _is_of_last(state, command.attempt):
        names = ("miner_id", "solution_id", "solution_uri", "solution_sha256", "work_ms")
        if all(getattr(state, name) == getattr(command, name) for name in names):
            return ()
    if state.status in {"solved", "validated", "rewarded"}:
        raise refuse("already_solved", f"task {state.key} has a solution")
    _present(state, command.miner_id, command.attempt)
    check_name("solution", command.solution_id)
    return (
        e.TaskSolved(
            **command.__dict__,
            # what judges and distributors need travels with the solution: they fold no tasks
            task_type=state.task_type,
            payload_sha256=state.payload_sha256,
            payload_bytes=state.payload_bytes,
            planted_sha256=state.planted_sha256,
            base_reward_micro=state.base_reward_micro,
        ),
    )


def fail(command: c.ReportFailure, state: TaskState) -> tuple[Event, ...]:
    if state.status in {"submitted", "failed"}:
        same = (state.miner_id, state.reason) == (command.miner_id, command.reason)
        ended = state.status == "failed" or not command.permanent
        if _is_of_last(state, command.attempt) and same and ended:
            return ()
    _present(state, command.miner_id, command.attempt)
    return (
        e.TaskAttemptFailed(
            attempt=command.attempt,
            miner_id=command.miner_id,
            reason=command.reason,
            final=command.permanent or used_attempts(state) >= state.max_attempts,
        ),
    )
