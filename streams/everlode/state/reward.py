"""The reward of (task, miner), and booked slashes, in a double-entry ledger.

Invariants: the entries of every event sum to zero; a reward is calculated once and paid at most
once, never while a case holds it; what was paid is not reversed, but reclaimed: it is a debt then,
which later rewards of its miner repay. Pure.
"""

from __future__ import annotations

from typing import assert_never

from everlode.events import commands as c
from everlode.events import rewards as e
from everlode.events.base import Event
from everlode.events.identity import home_of_id, named_after, qualified
from everlode.events.ids import derived
from everlode.events.states import RewardState
from everlode.events.types import LONGEST_ID
from everlode.state.formulas import REWARD_FORMULA, reward_of
from everlode.state.ledger import posting
from everlode.state.rewardfolds import FOLDS, held_by
from everlode.state.shape import (
    Context,
    Decide,
    Table,
    Variants,
    deciding,
    folding,
    missing,
    refuse,
    rule,
)

RewardCommand = (
    c.CalculateReward
    | c.WithholdReward
    | c.ReleaseReward
    | c.PayReward
    | c.ReverseReward
    | c.RepayDebt
    | c.ReduceReward
    | c.CollectSlash
)
HELD, FREE, PART, ALL = "held", "free", "part", "all"
TRANSITIONS: Table = {
    (e.RewardCalculated, ""): rule([None], "calculated"),
    (e.RewardWithheld, ""): rule(["calculated", "withheld"], "withheld"),
    (e.RewardReleased, HELD): rule(["withheld"]),
    (e.RewardReleased, FREE): rule(["withheld"], "calculated"),
    (e.RewardReduced, ""): rule(["calculated"]),
    (e.RewardPaid, ""): rule(["calculated"], "paid"),
    (e.RewardReversed, ""): rule(["calculated", "withheld"], "reversed"),
    (e.RewardReclaimed, ""): rule(["paid", "calculated", "withheld"], "reclaimed"),
    (e.DebtRepaid, PART): rule(["reclaimed"]),
    (e.DebtRepaid, ALL): rule(["reclaimed"], "repaid"),
    (e.SlashCollected, ""): rule([None], "collected"),
}
VARIANTS: Variants = {
    e.RewardReleased: lambda event, _: HELD if event.cases_left else FREE,
    e.DebtRepaid: lambda event, _: PART if event.left_micro else ALL,
}
"""Held: another case is open. Part: something is still owed."""


_RECLAIMABLE = frozenset({"paid", "calculated", "withheld"})


def reward_id(task_id: str, miner_id: str) -> str:
    """The natural key of a reward, and the payout sink's idempotency key."""
    return f"{task_id}|{miner_id}"


def payee_of(key: str) -> str:
    """The miner of a reward, by its key."""
    return key.rpartition("|")[2]


def slash_id(case_id: str, miner_id: str) -> str:
    """The key of a booked slash; where both names are too long for one id, what is derived of them.

    No name has `|`, and a case's is not a UUID, so the two forms never meet.
    """
    key = named_after(case_id, "slash|", f"|{miner_id}")
    if len(key) <= LONGEST_ID:
        return key
    return qualified(home_of_id(case_id), f"slash|{derived('slash', case_id, miner_id)}")


def due_micro(state: RewardState) -> int:
    """What is left to be paid of a reward that is payable."""
    return state.amount_micro - state.reduced_micro


def _decide(command: RewardCommand, state: RewardState | None, ctx: Context) -> tuple[Event, ...]:
    if isinstance(command, c.CalculateReward):
        return _calculate(command, state, ctx)
    if isinstance(command, c.CollectSlash):
        return _collect(command, state, ctx)
    if state is None:
        raise missing("reward", ctx.aggregate_id)
    match command:
        case c.WithholdReward():
            return _withhold(command, state)
        case c.ReleaseReward():
            return _release(command, state)
        case c.PayReward():
            return _pay(command, state)
        case c.ReverseReward():
            return _reverse(command, state)
        case c.RepayDebt():
            return _repay(command, state)
        case c.ReduceReward():
            return _reduce(command, state)
        case _:
            assert_never(command)


decide: Decide[RewardState] = deciding(TRANSITIONS, _decide, VARIANTS)
"""Events that a command causes on a reward: see `shape.deciding`."""


def _calculate(
    command: c.CalculateReward, state: RewardState | None, ctx: Context
) -> tuple[Event, ...]:
    if ctx.aggregate_id != reward_id(command.task_id, command.miner_id):
        raise refuse("wrong_key", "a reward's key is task_id|miner_id")
    if state is not None:
        if state.validation_id == command.validation_id:
            return ()
        raise refuse("already_calculated", f"reward {state.key} exists; it is given once")
    amount = reward_of(command.base_micro, command.score_ppm)
    return (
        e.RewardCalculated(
            **command.__dict__,
            amount_micro=amount,
            formula=REWARD_FORMULA,
            entries=posting("treasury", f"payable:{command.miner_id}", amount),
        ),
    )


def _collect(command: c.CollectSlash, state: RewardState | None, ctx: Context) -> tuple[Event, ...]:
    if ctx.aggregate_id != slash_id(command.case_id, command.miner_id):
        raise refuse("wrong_key", "a booked slash's key is derived from its case and miner")
    if state is not None:
        return ()
    entries = posting(f"slashed:{command.miner_id}", "treasury", command.amount_micro)
    return (e.SlashCollected(**command.__dict__, entries=entries),)


def _withhold(command: c.WithholdReward, state: RewardState) -> tuple[Event, ...]:
    if state.status == "withheld" and command.case_id in held_by(state):
        return ()
    if state.status not in {"calculated", "withheld"}:
        raise refuse("not_payable", f"reward {state.key} is {state.status}")
    return (e.RewardWithheld(case_id=command.case_id, reason=command.reason),)


def _release(command: c.ReleaseReward, state: RewardState) -> tuple[Event, ...]:
    if state.status != "withheld":
        return ()
    if command.case_id not in held_by(state):
        raise refuse(
            "other_case", f"reward {state.key} is withheld for {', '.join(held_by(state))}"
        )
    left = len(held_by(state)) - 1
    return (e.RewardReleased(case_id=command.case_id, reason=command.reason, cases_left=left),)


def _pay(command: c.PayReward, state: RewardState) -> tuple[Event, ...]:
    if state.status == "paid":
        if state.payout_ref == command.payout_ref:
            return ()
        raise refuse("already_paid", f"reward {state.key} was paid as {state.payout_ref}")
    if state.status != "calculated":
        raise refuse("not_payable", f"reward {state.key} is {state.status}")
    return (
        e.RewardPaid(
            task_id=state.task_id,
            miner_id=state.miner_id,
            amount_micro=due_micro(state),
            payout_key=state.key,
            payout_ref=command.payout_ref,
            entries=posting(
                f"payable:{state.miner_id}", f"paid:{state.miner_id}", due_micro(state)
            ),
        ),
    )


def _reverse(command: c.ReverseReward, state: RewardState) -> tuple[Event, ...]:
    if state.status in {"reversed", "reclaimed", "repaid"}:
        return ()
    used = state.amount_micro if state.status == "paid" else state.reduced_micro
    if used and command.case_id is not None and state.status in _RECLAIMABLE:
        return (_reclaimed(command.case_id, command.reason, state, used),)
    if state.status not in {"calculated", "withheld"} or used:
        raise refuse("too_late", f"reward {state.key} is {state.status}")
    return (
        e.RewardReversed(
            reason=command.reason,
            case_id=command.case_id,
            amount_micro=state.amount_micro,
            entries=posting(f"payable:{state.miner_id}", "treasury", state.amount_micro),
        ),
    )


def _reclaimed(case_id: str, reason: str, state: RewardState, used: int) -> Event:
    """What was paid, or repaid a debt, is owed; the rest was never anybody's."""
    unpaid = state.amount_micro - used
    rest = posting(f"payable:{state.miner_id}", "treasury", unpaid) if unpaid else ()
    return e.RewardReclaimed(
        miner_id=state.miner_id,
        case_id=case_id,
        reason=reason,
        amount_micro=used,
        unpaid_micro=unpaid,
        entries=(*posting(f"debt:{state.miner_id}", "treasury", used), *rest),
    )


def _repay(command: c.RepayDebt, state: RewardState) -> tuple[Event, ...]:
    """What is owed only shrinks, so a repeat, however late, finds another sum than it names."""
    if state.debt_micro != command.owed_micro:
        return ()
    if not 0 < command.amount_micro <= state.debt_micro:
        raise refuse("no_debt", f"of reward {state.key} {state.debt_micro} are owed")
    left = state.debt_micro - command.amount_micro
    paid, by = command.amount_micro, command.reward_id
    return (e.DebtRepaid(reward_id=by, amount_micro=paid, left_micro=left),)


def _reduce(command: c.ReduceReward, state: RewardState) -> tuple[Event, ...]:
    """As `_repay`: what is due only shrinks."""
    if due_micro(state) != command.due_micro:
        return ()
    if state.status != "calculated" or not 0 < command.amount_micro <= due_micro(state):
        raise refuse("not_payable", f"reward {state.key} is {state.status}, {due_micro(state)} due")
    account = f"payable:{state.miner_id}", f"debt:{state.miner_id}"
    part = command.amount_micro
    entries = posting(*account, part)
    return (e.RewardReduced(debt_id=command.debt_id, amount_micro=part, entries=entries),)


evolve = folding(FOLDS, TRANSITIONS, VARIANTS)
"""The reward after a fact: see `shape.folding`."""
