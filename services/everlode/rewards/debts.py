"""What miners owe: rewards that were reclaimed, and what later ones repay of them.

Both sides are aggregates of their own and change in one transaction: the debt shrinks by what the
reward is reduced by. The payout comes after that is committed, so that the sink is asked for one
amount only. Memory: one entry a debt. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from everlode.events.commands import ReduceReward, RepayDebt
from everlode.events.ids import own_id
from everlode.events.states import RewardState, State
from everlode.primary.component import Owed
from everlode.state.reward import due_micro

Peek = Callable[[str, str], State | None]


class Debts:
    """Reclaimed rewards that are not repaid, by miner."""

    def __init__(self) -> None:
        self._owed: dict[str, dict[str, None]] = {}

    def changed(self, state: RewardState) -> None:
        """Note a committed state of a reward."""
        if state.status == "reclaimed":
            self._owed.setdefault(state.miner_id, {})[state.key] = None
        elif state.key in (debts := self._owed.get(state.miner_id, {})):
            del debts[state.key]
            if not debts:
                del self._owed[state.miner_id]

    def repayments(
        self, reward: RewardState, peek: Peek, at: datetime, cause: str | None
    ) -> Iterator[Owed]:
        """What a payable reward repays of its miner's debts, oldest first; `peek` as staged."""
        due = due_micro(reward)
        for key in self._owed.get(reward.miner_id, {}):
            debt = peek("rewards", key)
            if not isinstance(debt, RewardState) or debt.home != reward.home:
                continue
            part = min(due, debt.debt_micro)
            if part:
                # two aggregates repay each other once: then nothing is owed, or nothing is due
                pair = debt.key, reward.key
                repaid = RepayDebt(
                    reward_id=reward.key, amount_micro=part, owed_micro=debt.debt_micro
                )
                yield Owed(own_id("repay", *pair), debt.key, repaid, at, cause, "repay")
                reduced = ReduceReward(debt_id=debt.key, amount_micro=part, due_micro=due)
                yield Owed(own_id("reduce", *pair), reward.key, reduced, at, cause, "reduce")
                due -= part
