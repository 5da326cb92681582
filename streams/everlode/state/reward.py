"""The reward of (task, miner), and booked slashes, in a double-entry ledger.

Invariants: the entries of every event sum to zero; a reward is calculated once and paid at most
once, never while it is withheld; what was paid is not reversed. Pure.
"""

from __future__ import annotations

from typing import assert_never

from everlode.events import commands as c
from everlode.events import rewards as e
from everlode.events.base import Event, Fact
from everlode.events.states import RewardState
from everlode.state.formulas import REWARD_FORMULA, reward_of
from everlode.state.ledger import posting, summed
from everlode.state.shape import (
    Context,
    Decide,
    Folds,
    Head,
    Table,
    deciding,
    folding,
    home_of,
    missing,
    refuse,
    rule,
    step,
)

RewardCommand = (
    c.CalculateReward
    | c.WithholdReward
    | c.ReleaseReward
    | c.PayReward
    | c.ReverseReward
    | c.CollectSlash
)
TRANSITIONS: Table = {
    (e.RewardCalculated, ""): rule([None], "calculated"),
    (e.RewardWithheld, ""): rule(["calculated"], "withheld"),
    (e.RewardReleased, ""): rule(["withheld"], "calculated"),
    (e.RewardPaid, ""): rule(["calculated"], "paid"),
    (e.RewardReversed, ""): rule(["calculated", "withheld"], "reversed"),
    (e.SlashCollected, ""): rule([None], "collected"),
}


def reward_id(task_id: str, miner_id: str) -> str:
    """The natural key of a reward, and the payout sink's idempotency key."""
    return f"{task_id}|{miner_id}"


def slash_id(case_id: str, miner_id: str) -> str:
    """The key of a booked slash."""
    return f"slash|{case_id}|{miner_id}"


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
        case _:
            assert_never(command)


decide: Decide[RewardState] = deciding(TRANSITIONS, _decide)
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
        raise refuse("wrong_key", "a booked slash's key is slash|case_id|miner_id")
    if state is not None:
        return ()
    entries = posting(f"slashed:{command.miner_id}", "treasury", command.amount_micro)
    return (e.SlashCollected(**command.__dict__, entries=entries),)


def _withhold(command: c.WithholdReward, state: RewardState) -> tuple[Event, ...]:
    if state.status == "withheld" and state.case_id == command.case_id:
        return ()
    if state.status != "calculated":
        raise refuse("not_payable", f"reward {state.key} is {state.status}")
    return (e.RewardWithheld(case_id=command.case_id, reason=command.reason),)


def _release(command: c.ReleaseReward, state: RewardState) -> tuple[Event, ...]:
    if state.status != "withheld":
        return ()
    if state.case_id != command.case_id:
        raise refuse("other_case", f"reward {state.key} is withheld for {state.case_id}")
    return (e.RewardReleased(case_id=command.case_id, reason=command.reason),)


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
            amount_micro=state.amount_micro,
            payout_key=state.key,
            payout_ref=command.payout_ref,
            entries=posting(
                f"payable:{state.miner_id}", f"paid:{state.miner_id}", state.amount_micro
            ),
        ),
    )


def _reverse(command: c.ReverseReward, state: RewardState) -> tuple[Event, ...]:
    if state.status == "reversed":
        return ()
    if state.status not in {"calculated", "withheld"}:
        raise refuse("too_late", f"reward {state.key} is {state.status}")
    return (
        e.RewardReversed(
            reason=command.reason,
            case_id=command.case_id,
            amount_micro=state.amount_micro,
            entries=posting(f"payable:{state.miner_id}", "treasury", state.amount_micro),
        ),
    )


def _on_calculated(_: RewardState | None, fact: Fact, head: Head) -> RewardState:
    data: e.RewardCalculated = fact.data  # type: ignore[assignment]
    return RewardState(
        *head,
        home=home_of(fact.envelope),
        task_id=data.task_id,
        miner_id=data.miner_id,
        validation_id=data.validation_id,
        case_id=None,
        base_micro=data.base_micro,
        score_ppm=data.score_ppm,
        amount_micro=data.amount_micro,
        formula=data.formula,
        payout_ref=None,
        entries=summed(data.entries),
        calculated_at=fact.envelope.occurred_at,
        paid_at=None,
    )


def _on_collected(_: RewardState | None, fact: Fact, head: Head) -> RewardState:
    data: e.SlashCollected = fact.data  # type: ignore[assignment]
    return RewardState(
        *head,
        home=home_of(fact.envelope),
        task_id="",
        miner_id=data.miner_id,
        validation_id="",
        case_id=data.case_id,
        base_micro=0,
        score_ppm=0,
        amount_micro=data.amount_micro,
        formula=0,
        payout_ref=None,
        entries=summed(data.entries),
        calculated_at=fact.envelope.occurred_at,
        paid_at=None,
    )


def _on_withheld(state: RewardState, fact: Fact, head: Head) -> RewardState:
    data: e.RewardWithheld = fact.data  # type: ignore[assignment]
    return step(state, head, case_id=data.case_id)


def _on_released(state: RewardState, fact: Fact, head: Head) -> RewardState:
    return step(
        state,
        head,
    )


def _on_paid(state: RewardState, fact: Fact, head: Head) -> RewardState:
    data: e.RewardPaid = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        payout_ref=data.payout_ref,
        entries=summed((*state.entries, *data.entries)),
        paid_at=fact.envelope.occurred_at,
    )


def _on_reversed(state: RewardState, fact: Fact, head: Head) -> RewardState:
    data: e.RewardReversed = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        case_id=data.case_id or state.case_id,
        entries=summed((*state.entries, *data.entries)),
    )


FOLDS: Folds[RewardState] = {
    e.RewardCalculated: _on_calculated,
    e.RewardWithheld: _on_withheld,
    e.RewardReleased: _on_released,
    e.RewardPaid: _on_paid,
    e.RewardReversed: _on_reversed,
    e.SlashCollected: _on_collected,
}
"""Total over the facts of `.rewards`; a test compares it with the catalogue."""
evolve = folding(FOLDS, TRANSITIONS)
"""The reward after a fact: see `shape.folding`."""
