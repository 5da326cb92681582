"""The miner's folds, one an event. Pure."""

from __future__ import annotations

from hashlib import blake2b

from everlode.events import miners as e
from everlode.events.base import Fact
from everlode.events.states import MinerState, Performance
from everlode.state.formulas import REPUTATION_START
from everlode.state.shape import Folds, Head, home_of, step

RECENT = 32
"""Finished pieces of work, and cleared cases, that the fold keeps."""


def deposit_mark(command_id: str) -> str:
    """What the fold keeps of a deposit: the first 8 bytes of BLAKE2b of its command id, in hex."""
    return blake2b(command_id.encode(), digest_size=8).hexdigest()


def locks_after(locks: dict[str, int], first: str | None, amount: int) -> dict[str, int]:
    """The locks without `amount`: the one of task `first` first, then by task id."""
    left = dict(locks)
    order = sorted(left, key=lambda task: (task != first, task))
    for task in order:
        if amount == 0:
            break
        taken = min(amount, left[task])
        amount -= taken
        left[task] -= taken
        if left[task] == 0:
            del left[task]
    return left


def _on_registered(_: MinerState | None, fact: Fact, head: Head) -> MinerState:
    data: e.MinerRegistered = fact.data  # type: ignore[assignment]
    return MinerState(
        *head,
        home=home_of(fact.envelope),
        **data.__dict__,
        stake_free_micro=0,
        stake_locked_micro=0,
        stake_slashed_micro=0,
        locks={},
        cases=(),
        reputation_ppm=REPUTATION_START,
        accepted=0,
        rejected=0,
        failed=0,
        expired=0,
        work_ms=0,
        score_sum_ppm=0,
        recent=(),
        registered_at=fact.envelope.occurred_at,
        reason=None,
    )


def _on_updated(state: MinerState, fact: Fact, head: Head) -> MinerState:
    data: e.MinerUpdated = fact.data  # type: ignore[assignment]
    return step(state, head, **data.__dict__)


def _on_deposited(state: MinerState, fact: Fact, head: Head) -> MinerState:
    data: e.StakeDeposited = fact.data  # type: ignore[assignment]
    mark = deposit_mark(fact.envelope.command_id or fact.envelope.event_id)
    return step(
        state,
        head,
        stake_free_micro=state.stake_free_micro + data.amount_micro,
        deposits=tuple(sorted({*state.deposits, mark})),
    )


def _on_locked(state: MinerState, fact: Fact, head: Head) -> MinerState:
    data: e.StakeLocked = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        stake_free_micro=state.stake_free_micro - data.amount_micro,
        stake_locked_micro=state.stake_locked_micro + data.amount_micro,
        locks={**state.locks, data.task_id: data.amount_micro},
    )


def _on_released(state: MinerState, fact: Fact, head: Head) -> MinerState:
    data: e.StakeReleased = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        stake_free_micro=state.stake_free_micro + data.amount_micro,
        stake_locked_micro=state.stake_locked_micro - data.amount_micro,
        locks={task: held for task, held in state.locks.items() if task != data.task_id},
    )


def _on_slashed(state: MinerState, fact: Fact, head: Head) -> MinerState:
    data: e.StakeSlashed = fact.data  # type: ignore[assignment]
    from_free = data.amount_micro - data.from_locked_micro
    return step(
        state,
        head,
        stake_free_micro=state.stake_free_micro - from_free,
        stake_locked_micro=state.stake_locked_micro - data.from_locked_micro,
        stake_slashed_micro=state.stake_slashed_micro + data.amount_micro,
        locks=locks_after(state.locks, data.task_id, data.from_locked_micro),
        cases=tuple(sorted({*state.cases, data.case_id})),
    )


def _on_reputation(state: MinerState, fact: Fact, head: Head) -> MinerState:
    data: e.ReputationChanged = fact.data  # type: ignore[assignment]
    cleared = state.cleared
    if data.reason == "cleared":
        cleared = (*cleared[1 - RECENT :], data.subject_id)
    return step(state, head, reputation_ppm=data.reputation_ppm, cleared=cleared)


def _on_performance(state: MinerState, fact: Fact, head: Head) -> MinerState:
    data: e.PerformanceRecorded = fact.data  # type: ignore[assignment]
    outcome = data.outcome
    done = Performance(
        data.task_id,
        outcome,
        data.work_ms,
        data.score_ppm,
        fact.envelope.occurred_at,
        data.attempt,
    )
    score = data.score_ppm if outcome == "accepted" else 0
    return step(
        state,
        head,
        work_ms=state.work_ms + data.work_ms,
        score_sum_ppm=state.score_sum_ppm + score,
        recent=(*state.recent[1 - RECENT :], done),
        **{outcome: getattr(state, outcome) + 1},
    )


def _on_suspended(state: MinerState, fact: Fact, head: Head) -> MinerState:
    data: e.MinerSuspended = fact.data  # type: ignore[assignment]
    return step(state, head, reason=data.reason)


def _on_reinstated(state: MinerState, fact: Fact, head: Head) -> MinerState:
    return step(state, head, reason=None)


def _on_retired(state: MinerState, fact: Fact, head: Head) -> MinerState:
    data: e.MinerRetired = fact.data  # type: ignore[assignment]
    return step(state, head, reason=data.reason)


FOLDS: Folds[MinerState] = {
    e.MinerRegistered: _on_registered,
    e.MinerUpdated: _on_updated,
    e.StakeDeposited: _on_deposited,
    e.StakeLocked: _on_locked,
    e.StakeReleased: _on_released,
    e.StakeSlashed: _on_slashed,
    e.ReputationChanged: _on_reputation,
    e.PerformanceRecorded: _on_performance,
    e.MinerSuspended: _on_suspended,
    e.MinerReinstated: _on_reinstated,
    e.MinerRetired: _on_retired,
}
"""Total over the facts of `.miners`; a test compares it with the catalogue."""
