"""The reward's folds, one an event. Pure."""

from __future__ import annotations

from everlode.events import rewards as e
from everlode.events.base import Fact
from everlode.events.states import RewardState
from everlode.state.ledger import summed
from everlode.state.shape import Folds, Head, home_of, step


def held_by(state: RewardState) -> tuple[str, ...]:
    """Cases that hold a reward back; a state of an older build names one."""
    if state.status != "withheld" or state.case_id is None:
        return ()
    return state.cases or (state.case_id,)


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
    cases = tuple(sorted({*held_by(state), data.case_id}))
    return step(state, head, case_id=data.case_id, cases=cases)


def _on_released(state: RewardState, fact: Fact, head: Head) -> RewardState:
    data: e.RewardReleased = fact.data  # type: ignore[assignment]
    return step(state, head, cases=tuple(case for case in held_by(state) if case != data.case_id))


def _on_reduced(state: RewardState, fact: Fact, head: Head) -> RewardState:
    data: e.RewardReduced = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        reduced_micro=state.reduced_micro + data.amount_micro,
        entries=summed((*state.entries, *data.entries)),
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
        cases=(),
        entries=summed((*state.entries, *data.entries)),
    )


def _on_reclaimed(state: RewardState, fact: Fact, head: Head) -> RewardState:
    data: e.RewardReclaimed = fact.data  # type: ignore[assignment]
    return step(
        state,
        head,
        case_id=data.case_id,
        cases=(),
        debt_micro=data.amount_micro,
        entries=summed((*state.entries, *data.entries)),
    )


def _on_repaid(state: RewardState, fact: Fact, head: Head) -> RewardState:
    data: e.DebtRepaid = fact.data  # type: ignore[assignment]
    return step(state, head, debt_micro=data.left_micro)


FOLDS: Folds[RewardState] = {
    e.RewardCalculated: _on_calculated,
    e.RewardWithheld: _on_withheld,
    e.RewardReleased: _on_released,
    e.RewardPaid: _on_paid,
    e.RewardReversed: _on_reversed,
    e.RewardReclaimed: _on_reclaimed,
    e.DebtRepaid: _on_repaid,
    e.RewardReduced: _on_reduced,
    e.SlashCollected: _on_collected,
}
"""Total over the facts of `.rewards`; a test compares it with the catalogue."""
