"""The miner: registration, stake, reputation, performance; active, suspended or retired.

Invariants: free, locked and slashed stake change only by events that name the amount, and
locked stake is the sum of the locks; a deposit is booked once, a fraud case takes stake once;
reputation stays in 0 to 1000000. Commands come from several topics whose order among each other
is not given: an outcome may come before the lock that it ends, and then the lock is not made. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, assert_never

from everlode.events import commands as c
from everlode.events import miners as e
from everlode.events.base import Event, Fact
from everlode.events.states import MinerState, Performance
from everlode.events.tasktypes import check_task_type
from everlode.events.types import PPM, ReputationReason
from everlode.state.formulas import REPUTATION_START, reputation_after
from everlode.state.shape import (
    Context,
    Decide,
    Table,
    check_name,
    deciding,
    folding,
    head,
    home_of,
    missing,
    refuse,
    rule,
    step,
)

MinerCommand = (
    c.RegisterMiner
    | c.UpdateMiner
    | c.DepositStake
    | c.LockStake
    | c.ReleaseStake
    | c.RecordOutcome
    | c.SlashStake
    | c.RecordClearing
    | c.SuspendMiner
    | c.ReinstateMiner
    | c.RetireMiner
)
RECENT = 32
"""Finished pieces of work, and cleared cases, that the fold keeps."""
MOST_CONCURRENT = 1_000
"""Tasks at once: each locks a stake, and all locks are in one state."""
MOST_DEPOSITS = 4096
"""Deposits of one miner; each leaves 16 characters in its state, so that none is taken twice."""
_HERE = ("active", "suspended")
_ANY = ("active", "suspended", "retired")
TRANSITIONS: Table = {
    e.MinerRegistered: rule([None], "active"),
    e.MinerUpdated: rule(_HERE),
    e.StakeDeposited: rule(_HERE),
    e.StakeLocked: rule(_HERE),
    e.StakeReleased: rule(_ANY),
    e.StakeSlashed: rule(_ANY),
    e.ReputationChanged: rule(_ANY),
    e.PerformanceRecorded: rule(_ANY),
    e.MinerSuspended: rule(["active"], "suspended"),
    e.MinerReinstated: rule(["suspended"], "active"),
    e.MinerRetired: rule(_HERE, "retired"),
}


def _decide(  # noqa: C901 - one case a command
    command: MinerCommand, state: MinerState | None, ctx: Context
) -> tuple[Event, ...]:
    if isinstance(command, c.RegisterMiner):
        return _register(command, state, ctx)
    if state is None:
        raise missing("miner", ctx.aggregate_id)
    match command:
        case c.UpdateMiner():
            return _update(command, state, ctx)
        case c.DepositStake():
            return _deposit(command, state, ctx)
        case c.LockStake():
            return _lock(command, state, ctx)
        case c.ReleaseStake():
            return _release(command.task_id, state)
        case c.RecordOutcome():
            return _outcome(command, state, ctx)
        case c.SlashStake():
            return _slash(command, state)
        case c.RecordClearing():
            return _cleared(command, state)
        case c.SuspendMiner():
            _here(state)
            suspended = state.status == "suspended"
            return () if suspended else (e.MinerSuspended(reason=command.reason),)
        case c.ReinstateMiner():
            _here(state)
            active = state.status == "active"
            return () if active else (e.MinerReinstated(reason=command.reason),)
        case c.RetireMiner():
            if state.status == "retired":
                return ()
            if state.locks:
                raise refuse("stake_locked", f"miner {state.key} still has tasks")
            return (e.MinerRetired(reason=command.reason),)
        case _:
            assert_never(command)


decide: Decide[MinerState] = deciding(TRANSITIONS, _decide)
"""Events that a command causes on a miner: see `shape.deciding`."""


def _here(state: MinerState) -> None:
    if state.status == "retired":
        raise refuse("retired", f"miner {state.key} is retired")


def _check_offer(command: c.RegisterMiner | c.UpdateMiner, ctx: Context) -> None:
    """Raises: Refusal: what the miner offers cannot be, or nobody could ever ask for it."""
    most = command.max_concurrent
    for name in command.specialties:
        check_task_type(name, ctx.task_types)
    if not 1 <= most <= MOST_CONCURRENT:
        raise refuse("bad_capacity", f"max_concurrent is {most}", f"1 to {MOST_CONCURRENT}")


def _register(
    command: c.RegisterMiner, state: MinerState | None, ctx: Context
) -> tuple[Event, ...]:
    if state is not None:
        _here(state)
        if state.operator_id == command.operator_id:
            return ()
        raise refuse("exists", f"miner {state.key} exists", "choose another miner id")
    check_name("miner", ctx.aggregate_id)
    _check_offer(command, ctx)
    return (e.MinerRegistered(**command.__dict__),)


def _update(command: c.UpdateMiner, state: MinerState, ctx: Context) -> tuple[Event, ...]:
    _here(state)
    _check_offer(command, ctx)
    have = (state.endpoint, state.specialties, state.max_concurrent)
    if have == (command.endpoint, command.specialties, command.max_concurrent):
        return ()
    return (e.MinerUpdated(**command.__dict__),)


def deposit_mark(command_id: str) -> str:
    """What the fold keeps of a deposit: the first 8 bytes of BLAKE2b of its command id, in hex."""
    return blake2b(command_id.encode(), digest_size=8).hexdigest()


def _deposit(command: c.DepositStake, state: MinerState, ctx: Context) -> tuple[Event, ...]:
    """Money: a repeat is known for good, not only while the primary remembers the command."""
    if ctx.command_id and deposit_mark(ctx.command_id) in state.deposits:
        return ()
    _here(state)
    if command.amount_micro == 0:
        raise refuse("bad_amount", "a deposit is above zero")
    if len(state.deposits) >= MOST_DEPOSITS:
        raise refuse("too_many_deposits", f"miner {state.key} has deposited {MOST_DEPOSITS} times")
    return (e.StakeDeposited(amount_micro=command.amount_micro),)


def _lock(command: c.LockStake, state: MinerState, ctx: Context) -> tuple[Event, ...]:
    _here(state)
    over = any(p.task_id == command.task_id and p.at >= ctx.at for p in state.recent)
    if command.task_id in state.locks or over:
        return ()
    if command.amount_micro > state.stake_free_micro:
        raise refuse(
            "insufficient_stake",
            f"free stake is {state.stake_free_micro}, {command.amount_micro} are needed",
            "deposit stake",
        )
    return (e.StakeLocked(**command.__dict__),)


def _release(task_id: str, state: MinerState) -> tuple[Event, ...]:
    amount = state.locks.get(task_id)
    if amount is None:
        return ()
    return (e.StakeReleased(task_id=task_id, amount_micro=amount),)


def _outcome(command: c.RecordOutcome, state: MinerState, ctx: Context) -> tuple[Event, ...]:
    key = (command.task_id, command.outcome, ctx.at)
    if any((p.task_id, p.outcome, p.at) == key for p in state.recent):
        return ()
    moved = _moved(state, command.outcome, command.subject_id, command.score_ppm)
    done = e.PerformanceRecorded(
        task_id=command.task_id,
        outcome=command.outcome,
        work_ms=command.work_ms,
        score_ppm=command.score_ppm,
    )
    return (*_release(command.task_id, state), done, moved)


def _moved(
    state: MinerState, reason: ReputationReason, subject_id: str, score_ppm: int = 0
) -> e.ReputationChanged:
    after = reputation_after(state.reputation_ppm, reason, score_ppm)
    return e.ReputationChanged(
        delta_ppm=after - state.reputation_ppm,
        reputation_ppm=after,
        reason=reason,
        subject_id=subject_id,
    )


def _slash(command: c.SlashStake, state: MinerState) -> tuple[Event, ...]:
    if command.case_id in state.cases:
        return ()
    take = min(command.amount_micro, state.stake_locked_micro + state.stake_free_micro)
    return (
        e.StakeSlashed(
            case_id=command.case_id,
            task_id=command.task_id,
            amount_micro=take,
            from_locked_micro=min(take, state.stake_locked_micro),
        ),
        _moved(state, "fraud", command.case_id),
    )


def _cleared(command: c.RecordClearing, state: MinerState) -> tuple[Event, ...]:
    if command.case_id in (*state.cleared, *state.cases):
        return ()
    return (_moved(state, "cleared", command.case_id),)


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


def _on_registered(_: MinerState | None, fact: Fact, partition: int) -> MinerState:
    data: e.MinerRegistered = fact.data  # type: ignore[assignment]
    return MinerState(
        *head(fact.envelope, partition),
        status="active",
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


def _on_updated(state: MinerState, fact: Fact, partition: int) -> MinerState:
    data: e.MinerUpdated = fact.data  # type: ignore[assignment]
    return step(state, fact.envelope, partition, **data.__dict__)


def _on_deposited(state: MinerState, fact: Fact, partition: int) -> MinerState:
    data: e.StakeDeposited = fact.data  # type: ignore[assignment]
    mark = deposit_mark(fact.envelope.command_id or fact.envelope.event_id)
    return step(
        state,
        fact.envelope,
        partition,
        stake_free_micro=state.stake_free_micro + data.amount_micro,
        deposits=tuple(sorted({*state.deposits, mark})),
    )


def _on_locked(state: MinerState, fact: Fact, partition: int) -> MinerState:
    data: e.StakeLocked = fact.data  # type: ignore[assignment]
    return step(
        state,
        fact.envelope,
        partition,
        stake_free_micro=state.stake_free_micro - data.amount_micro,
        stake_locked_micro=state.stake_locked_micro + data.amount_micro,
        locks={**state.locks, data.task_id: data.amount_micro},
    )


def _on_released(state: MinerState, fact: Fact, partition: int) -> MinerState:
    data: e.StakeReleased = fact.data  # type: ignore[assignment]
    return step(
        state,
        fact.envelope,
        partition,
        stake_free_micro=state.stake_free_micro + data.amount_micro,
        stake_locked_micro=state.stake_locked_micro - data.amount_micro,
        locks={task: held for task, held in state.locks.items() if task != data.task_id},
    )


def _on_slashed(state: MinerState, fact: Fact, partition: int) -> MinerState:
    data: e.StakeSlashed = fact.data  # type: ignore[assignment]
    from_free = data.amount_micro - data.from_locked_micro
    return step(
        state,
        fact.envelope,
        partition,
        stake_free_micro=state.stake_free_micro - from_free,
        stake_locked_micro=state.stake_locked_micro - data.from_locked_micro,
        stake_slashed_micro=state.stake_slashed_micro + data.amount_micro,
        locks=locks_after(state.locks, data.task_id, data.from_locked_micro),
        cases=tuple(sorted({*state.cases, data.case_id})),
    )


def _on_reputation(state: MinerState, fact: Fact, partition: int) -> MinerState:
    data: e.ReputationChanged = fact.data  # type: ignore[assignment]
    cleared = state.cleared
    if data.reason == "cleared":
        cleared = (*cleared[1 - RECENT :], data.subject_id)
    return step(
        state, fact.envelope, partition, reputation_ppm=data.reputation_ppm, cleared=cleared
    )


def _on_performance(state: MinerState, fact: Fact, partition: int) -> MinerState:
    data: e.PerformanceRecorded = fact.data  # type: ignore[assignment]
    outcome = data.outcome
    done = Performance(
        data.task_id, outcome, data.work_ms, data.score_ppm, fact.envelope.occurred_at
    )
    score = data.score_ppm if outcome == "accepted" else 0
    return step(
        state,
        fact.envelope,
        partition,
        work_ms=state.work_ms + data.work_ms,
        score_sum_ppm=state.score_sum_ppm + score,
        recent=(*state.recent[1 - RECENT :], done),
        **{outcome: getattr(state, outcome) + 1},
    )


def _on_suspended(state: MinerState, fact: Fact, partition: int) -> MinerState:
    data: e.MinerSuspended = fact.data  # type: ignore[assignment]
    return step(state, fact.envelope, partition, status="suspended", reason=data.reason)


def _on_reinstated(state: MinerState, fact: Fact, partition: int) -> MinerState:
    return step(state, fact.envelope, partition, status="active", reason=None)


def _on_retired(state: MinerState, fact: Fact, partition: int) -> MinerState:
    data: e.MinerRetired = fact.data  # type: ignore[assignment]
    return step(state, fact.envelope, partition, status="retired", reason=data.reason)


FOLDS: dict[type[Event], Callable[[Any, Fact, int], MinerState]] = {
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


evolve = folding(FOLDS, (e.MinerRegistered,))
"""The miner after a fact: see `shape.folding`."""


def average_score_ppm(state: MinerState) -> int | None:
    """Mean score of the accepted solutions; None when there are none."""
    return min(PPM, state.score_sum_ppm // state.accepted) if state.accepted else None
