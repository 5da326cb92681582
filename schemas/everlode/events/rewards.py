"""Facts about rewards; their postings sum to zero.

The Avro schema of the same name documents each field and its unit. Pure.
"""

from __future__ import annotations

from everlode.events.base import Event, LedgerEntry
from everlode.events.types import (
    Count,
    Id,
    Items,
    Ppm,
    Text,
)


class RewardCalculated(Event):
    """What an accepted solution earns."""

    task_id: Id
    miner_id: Id
    validation_id: Id
    base_micro: Count
    score_ppm: Ppm
    amount_micro: Count
    formula: Count
    entries: Items[LedgerEntry]


class RewardWithheld(Event):
    """The reward is held back while a fraud case is open."""

    case_id: Id
    reason: Text


class RewardReleased(Event):
    """A suspicion was false; the reward may be paid once no case holds it."""

    case_id: Id
    reason: Text
    cases_left: Count = 0


class RewardPaid(Event):
    """The payout left, once."""

    task_id: Id
    miner_id: Id
    amount_micro: Count
    payout_key: Text
    payout_ref: Text
    entries: Items[LedgerEntry]


class RewardReversed(Event):
    """A reward was taken back before it was paid."""

    reason: Text
    case_id: Id | None = None
    amount_micro: Count
    entries: Items[LedgerEntry]


class SlashCollected(Event):
    """Slashed stake was booked."""

    miner_id: Id
    case_id: Id
    amount_micro: Count
    entries: Items[LedgerEntry]


class RewardReclaimed(Event):
    """A case was confirmed after the reward, or a part of it, was used: its miner owes that."""

    miner_id: Id
    case_id: Id
    reason: Text
    amount_micro: Count
    unpaid_micro: Count
    entries: Items[LedgerEntry]


class DebtRepaid(Event):
    """A later reward of the miner repaid a part of a debt, or all that was left."""

    reward_id: Id
    amount_micro: Count
    left_micro: Count


class RewardReduced(Event):
    """A part of the reward repaid a debt of its miner; the rest is paid."""

    debt_id: Id
    amount_micro: Count
    entries: Items[LedgerEntry]
