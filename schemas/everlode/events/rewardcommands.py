"""What may be asked of the reward primary; `commands` has them, too.

The Avro schema of the same name documents each field and its unit. Pure.
"""

from __future__ import annotations

from typing import ClassVar

from everlode.events.base import OperatorCommand, OwnCommand
from everlode.events.types import Count, Id, Ppm, Text


class CalculateReward(OwnCommand):
    """Book what an accepted solution earns."""

    component: ClassVar[str] = "rewards"

    task_id: Id
    miner_id: Id
    validation_id: Id
    base_micro: Count
    score_ppm: Ppm


class WithholdReward(OperatorCommand):
    """Hold a reward back."""

    component: ClassVar[str] = "rewards"

    case_id: Id
    reason: Text


class ReleaseReward(OperatorCommand):
    """Let a withheld reward be paid."""

    component: ClassVar[str] = "rewards"

    case_id: Id
    reason: Text


class PayReward(OwnCommand):
    """Note that the payout left."""

    component: ClassVar[str] = "rewards"

    payout_ref: Text


class ReverseReward(OperatorCommand):
    """Take an unpaid reward back."""

    component: ClassVar[str] = "rewards"

    reason: Text
    case_id: Id | None = None


class CollectSlash(OwnCommand):
    """Book slashed stake."""

    component: ClassVar[str] = "rewards"

    miner_id: Id
    case_id: Id
    amount_micro: Count


class RepayDebt(OwnCommand):
    """Note that a later reward repays a part of a debt."""

    component: ClassVar[str] = "rewards"

    reward_id: Id
    amount_micro: Count
    owed_micro: Count = 0


class ReduceReward(OwnCommand):
    """Let a part of a reward repay a debt of its miner."""

    component: ClassVar[str] = "rewards"

    debt_id: Id
    amount_micro: Count
    due_micro: Count = 0
