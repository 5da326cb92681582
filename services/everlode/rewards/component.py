"""What is special about reward distributors: payouts leave through the sink."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeGuard
from uuid import uuid5

from everlode.control.fold import ControlState
from everlode.errors import Unavailable
from everlode.events.base import Command, Fact
from everlode.events.commands import CalculateReward, PayReward, ReverseReward, WithholdReward
from everlode.events.rewards import RewardCalculated, RewardReleased
from everlode.events.states import RewardState, State
from everlode.events.validations import FraudCleared, FraudConfirmed, FraudSuspected
from everlode.membership.agent import Load
from everlode.primary.component import Component, Owed
from everlode.rewards.sink import PayoutConflict, PayoutSink
from everlode.state.reactions import NAMESPACE
from everlode.state.view import Where
from everlode.topics import Topology
from everlode.topics.names import fact_topic

LOG = logging.getLogger(__name__)

PAY_AGAIN_S = 5.0
"""A payout that failed is tried again after this, with all others that wait."""
PAY_AT_ONCE = 100


class RewardComponent(Component):
    """Rewards of one home region."""

    name = "rewards"
    states = ("rewards",)
    sees = ("validations",)
    looks_at = frozenset({"FraudSuspected", "FraudConfirmed", "FraudCleared"})
    needs_committed = (FraudSuspected, FraudConfirmed, FraudCleared)

    def __init__(
        self,
        home: str,
        topology: Topology,
        sink: PayoutSink,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._now_s = now_s
        self.pending: dict[str, float] = {}
        """Rewards that are to be paid → since when, on this node's monotonic clock."""
        self.stopped: dict[str, str] = {}
        """Rewards whose payout contradicts one that left → why; a human decides."""
        self._try_at = 0.0
        self._cases: dict[str, Fact] = {}
        """Fraud case → its newest fact."""
        self._cases_of: dict[str, set[str]] = {}
        """Task → its fraud cases."""
        super().__init__(home, topology)

    def cause_topics(self) -> list[str]:
        """Home facts only: decisions, slashes, and its own calculations."""
        origin = self.topology.origin(self.home)
        return [fact_topic(origin, c) for c in ("validations", "miners", "rewards")]

    def changed(self, old: State | None, new: State | None) -> None:
        """See Component."""
        if isinstance(new, RewardState):
            if new.status == "calculated":
                self.pending.setdefault(new.key, self._now_s())
            else:
                self.pending.pop(new.key, None)
                self.stopped.pop(new.key, None)

    def observe(self, fact: Fact) -> None:
        """Keep what is known of each case, for rewards that are calculated after it."""
        data, case = fact.data, fact.envelope.aggregate_id
        if not isinstance(data, self.needs_committed):
            return
        known = self._cases.get(case)
        if known is not None and known.envelope.version >= fact.envelope.version:
            return
        self._cases[case] = fact
        if isinstance(data, FraudSuspected | FraudConfirmed) and data.task_id is not None:
            self._cases_of.setdefault(data.task_id, set()).add(case)

    def react(self, fact: Fact, where: Where) -> Iterable[Owed]:
        """As the rules say; and what is calculated (or released) is paid now, or by `due`.

        What cannot be paid waits, and holds up nothing else. Raises: Unavailable: the sink does
        not say whether a payout has left, or the lease is out; the fact is read again.
        """
        if isinstance(fact.data, RewardCalculated | RewardReleased):
            state = self.peek("rewards", fact.envelope.aggregate_id)
            if not self._is_due(state):
                return
            if self._now_s() >= self._try_at:
                yield from self._payout(state, fact.envelope.occurred_at, fact.envelope.event_id)
            return
        if isinstance(fact.data, self.needs_committed):
            self.observe(fact)
        for owed in super().react(fact, where):
            yield from self.before(owed.aggregate_id, owed.command, owed.at)
            yield owed
            if isinstance(owed.command, CalculateReward):
                yield from self._suspected_before(owed, owed.command)

    def _suspected_before(self, owed: Owed, command: CalculateReward) -> Iterable[Owed]:
        """What a case says that was there before the reward: as it would have said after it."""
        for case in sorted(self._cases_of.get(command.task_id, ())):
            fact = self._cases[case]
            data = fact.data
            if not isinstance(data, FraudSuspected | FraudConfirmed):
                continue  # cleared
            if data.rule != "colluding-votes" and command.miner_id not in data.suspects:
                continue
            held: WithholdReward | ReverseReward
            if isinstance(data, FraudSuspected):
                held = WithholdReward(case_id=case, reason="fraud_suspected")
            else:
                held = ReverseReward(case_id=case, reason="fraud_confirmed")
            name = f"{fact.envelope.event_id}/before/{owed.aggregate_id}"
            yield Owed(
                str(uuid5(NAMESPACE, name)), owed.aggregate_id, held, owed.at,
                fact.envelope.event_id,
            )  # fmt: skip

    def before(self, aggregate_id: str, command: Command, at: datetime) -> Iterable[Owed]:
        """The payout that left before it could be booked: it is booked first, not held back."""
        if isinstance(command, WithholdReward | ReverseReward):
            ref = self._sink.find(aggregate_id)
            if ref is not None:
                yield self._booking(aggregate_id, ref, at, None)

    def due(self, now: datetime, control: ControlState) -> Iterable[Owed]:
        """Pay what could not be paid when it was calculated."""
        clock = self._now_s()
        if clock < self._try_at:
            return
        waiting = [
            key
            for key, since in self.pending.items()
            if clock - since >= PAY_AGAIN_S and key not in self.stopped
        ]
        for key in waiting[:PAY_AT_ONCE]:
            state = self.peek("rewards", key)
            if self._is_due(state):
                yield from self._payout(state, now, None)
            if clock < self._try_at:
                return  # it fails: not for each of them now

    def _is_due(self, state: State | None) -> TypeGuard[RewardState]:
        if not isinstance(state, RewardState) or state.status != "calculated":
            return False
        return state.home in self.served

    def _payout(self, state: RewardState, at: datetime, cause: str | None) -> Iterable[Owed]:
        if not self.leads(state.home):
            raise Unavailable(f"payout {state.key}: the lease ran out before it")
        try:
            ref = self._sink.pay(state.key, state.miner_id, state.amount_micro)
        except Unavailable as error:
            LOG.warning("payout %s waits: %s", state.key, error.message)
            self._try_at = self._now_s() + PAY_AGAIN_S
        except PayoutConflict as error:
            if state.key not in self.stopped:
                LOG.error("payout %s stops: %s; %s", state.key, error.message, error.hint)
            self.stopped[state.key] = error.message
        else:
            yield self._booking(state.key, ref, at, cause)

    def _booking(self, key: str, ref: str, at: datetime, cause: str | None) -> Owed:
        name = str(uuid5(NAMESPACE, f"pay/{key}"))
        return Owed(name, key, PayReward(payout_ref=ref), at, cause)

    def load(self) -> Load:
        """See Component."""
        return Load(
            current_tasks=len(self.pending),
            work_done=self.folds.folded,
            queue_size=len(self.pending),
        )
