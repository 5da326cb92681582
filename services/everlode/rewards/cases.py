"""Fraud cases, as a reward primary knows them: what they say of rewards that come after them.

Facts of different partitions come in any order: a case may be known before the reward that it
concerns, or before the reactions to it are due. Invariant: of a case the newest fact counts. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal, NamedTuple

from everlode.events.base import Fact
from everlode.events.commands import CalculateReward, ReverseReward, WithholdReward
from everlode.events.ids import own_id
from everlode.events.states import FraudState, RewardState
from everlode.events.validations import FraudCleared, FraudConfirmed, FraudSuspected
from everlode.primary.component import Owed
from everlode.state.reactions import concerns

Status = Literal["suspected", "confirmed", "cleared"]


class Case(NamedTuple):
    """A fraud case as its last fact left it."""

    key: str
    status: Status
    rule: str
    suspects: tuple[str, ...]
    solver_id: str | None
    task_id: str | None
    event_id: str
    version: int
    stamp: int = 0


class Cases:
    """All cases of a home region."""

    def __init__(self) -> None:
        self._known: dict[str, Case] = {}
        self._of_task: dict[str, set[str]] = {}

    def restore(self, state: FraudState, event_id: str) -> None:
        """A case as its facts would have left it."""
        status: Status = state.status  # type: ignore[assignment]  # the table has no other
        about = state.rule, state.suspects, state.solver_id, state.task_id
        self._keep(Case(state.key, status, *about, event_id, state.version, state.stamp))

    def observe(self, fact: Fact) -> None:
        """Note a fact of a case; what is older than what is known changes nothing."""
        data, key, version = fact.data, fact.envelope.aggregate_id, fact.envelope.version
        known = self._known.get(key)
        if known is not None and known.version >= version:
            return
        event_id = fact.envelope.event_id
        match data:
            case FraudSuspected():
                status: Status = "suspected"
            case FraudConfirmed():
                status = "confirmed"
            case FraudCleared():
                self._keep(Case(key, "cleared", "", (), None, None, event_id, version))
                return
            case _:
                return
        about = data.rule, data.suspects, data.solver_id, data.task_id
        self._keep(Case(key, status, *about, event_id, version, fact.envelope.stamp))

    def _keep(self, case: Case) -> None:
        self._known[case.key] = case
        if case.task_id is not None:
            self._of_task.setdefault(case.task_id, set()).add(case.key)

    def is_open(self, case_id: str) -> bool:
        """True for a case that is known, and not cleared."""
        known = self._known.get(case_id)
        return known is not None and known.status != "cleared"

    def concerning(self, task_id: str, miner_id: str) -> Iterator[Case]:
        """Cases, not cleared, for which the reward of this miner for this task waits; by key."""
        for key in sorted(self._of_task.get(task_id, ())):
            case = self._known[key]
            if case.status == "cleared":
                continue
            if concerns(case.rule, case.suspects, case.solver_id, miner_id):
                yield case

    def holds(
        self, key: str, reward: CalculateReward | RewardState, at: datetime, cause: str | None
    ) -> Iterator[Owed]:
        """What cases ask of a reward that were there before it, or before the sink answered."""
        for case in self.concerning(reward.task_id, reward.miner_id):
            held: WithholdReward | ReverseReward
            if case.status == "suspected":
                held = WithholdReward(case_id=case.key, reason="fraud_suspected")
            else:
                held = ReverseReward(case_id=case.key, reason="fraud_confirmed")
            name = own_id("before", case.event_id, key)
            yield Owed(name, key, held, at, cause, "before", case.stamp)
