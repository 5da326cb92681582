"""The miner: registration, stake, reputation, performance; active, suspended or retired.

Invariants: free, locked and slashed stake change only by events that name the amount, and
locked stake is the sum of the locks; a deposit is booked once, a fraud case takes stake once;
reputation stays in 0 to 1000000. Commands come from several topics whose order among each other
is not given: an outcome may come before the lock that it ends, and then the lock is not made. Pure.
"""

from __future__ import annotations

from typing import assert_never

from everlode.events import commands as c
from everlode.events import miners as e
from everlode.events.base import Event
from everlode.events.identity import name_of
from everlode.events.states import MinerState
from everlode.events.tasktypes import check_task_type
from everlode.events.types import PPM, ReputationReason
from everlode.state.formulas import reputation_after
from everlode.state.minerfolds import FOLDS, deposit_mark
from everlode.state.shape import (
    Context,
    Decide,
    Table,
    check_name,
    deciding,
    folding,
    missing,
    refuse,
    rule,
)
from everlode.state.suspension import present, reinstate, suspend

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
MOST_CONCURRENT = 1_000
"""Tasks at once: each locks a stake, and all locks are in one state."""
MOST_DEPOSITS = 4096
"""Deposits of one miner; each leaves 16 characters in its state, so that none is taken twice."""
_HERE = ("active", "suspended")
_ANY = ("active", "suspended", "retired")
TRANSITIONS: Table = {
    (e.MinerRegistered, ""): rule([None], "active"),
    (e.MinerUpdated, ""): rule(_HERE),
    (e.StakeDeposited, ""): rule(_HERE),
    (e.StakeLocked, ""): rule(_HERE),
    (e.StakeReleased, ""): rule(_HERE),
    (e.StakeSlashed, ""): rule(_ANY),
    (e.ReputationChanged, ""): rule(_ANY),
    (e.PerformanceRecorded, ""): rule(_ANY),
    (e.MinerSuspended, ""): rule(_HERE, "suspended"),
    (e.MinerReinstated, ""): rule(["suspended"], "active"),
    (e.MinerRetired, ""): rule(_HERE, "retired"),
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
            return suspend(command, state)
        case c.ReinstateMiner():
            return reinstate(command, state, ctx)
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
        present(state)
        names = ("operator_id", "gpus", "gpu_model", "cpu_milli", "memory_mib")
        if any(getattr(state, name) != getattr(command, name) for name in names):
            raise refuse("exists", f"miner {state.key} exists", "choose another miner id")
        offer = {name: getattr(command, name) for name in c.UpdateMiner.model_fields}
        return _update(c.UpdateMiner(**offer), state, ctx)  # it comes back, perhaps with another
    check_name("miner", name_of(ctx.aggregate_id))
    _check_offer(command, ctx)
    return (e.MinerRegistered(**command.__dict__),)


def _update(command: c.UpdateMiner, state: MinerState, ctx: Context) -> tuple[Event, ...]:
    present(state)
    _check_offer(command, ctx)
    have = (state.endpoint, state.specialties, state.max_concurrent)
    if have == (command.endpoint, command.specialties, command.max_concurrent):
        return ()
    return (e.MinerUpdated(**command.__dict__),)


def _deposit(command: c.DepositStake, state: MinerState, ctx: Context) -> tuple[Event, ...]:
    """Money: a repeat is known for good, not only while the primary remembers the command."""
    if ctx.command_id and deposit_mark(ctx.command_id) in state.deposits:
        return ()
    present(state)
    if len(state.deposits) >= MOST_DEPOSITS:
        raise refuse("too_many_deposits", f"miner {state.key} has deposited {MOST_DEPOSITS} times")
    return (e.StakeDeposited(amount_micro=command.amount_micro),)


def _lock(command: c.LockStake, state: MinerState, ctx: Context) -> tuple[Event, ...]:
    present(state)
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
    key = (command.task_id, command.outcome, command.attempt, ctx.at)
    if any((p.task_id, p.outcome, p.attempt, p.at) == key for p in state.recent):
        return ()
    moved = _moved(state, command.outcome, command.subject_id, command.score_ppm)
    done = e.PerformanceRecorded(
        task_id=command.task_id,
        outcome=command.outcome,
        work_ms=command.work_ms,
        score_ppm=command.score_ppm,
        attempt=command.attempt,
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


evolve = folding(FOLDS, TRANSITIONS)
"""The miner after a fact: see `shape.folding`."""


def average_score_ppm(state: MinerState) -> int | None:
    """Mean score of the accepted solutions; None when there are none."""
    return min(PPM, state.score_sum_ppm // state.accepted) if state.accepted else None
