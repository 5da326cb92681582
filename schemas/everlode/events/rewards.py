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
    """The suspicion was false; the reward may be paid."""

    case_id: Id
    reason: Text


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
