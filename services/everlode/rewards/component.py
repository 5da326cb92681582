"""What is special about reward distributors: payouts leave through the sink."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Literal, NamedTuple, TypeGuard
from uuid import uuid5

from everlode.control.fold import ControlState
from everlode.errors import EverlodeError, Unavailable
from everlode.events.base import Command, Fact
from everlode.events.commands import CalculateReward, PayReward, ReverseReward, WithholdReward
from everlode.events.rewards import RewardCalculated, RewardReleased
from everlode.events.states import FraudState, RewardState, State
from everlode.events.validations import FraudCleared, FraudConfirmed, FraudSuspected
from everlode.membership.agent import Load
from everlode.primary.component import Component, Owed
from everlode.rewards.payouts import Payouts
from everlode.rewards.sink import PayoutConflict, PayoutSink
from everlode.snapshots.read import Alive
from everlode.state.reactions import NAMESPACE
from everlode.state.view import Where
from everlode.topics import Topology
from everlode.topics.names import fact_topic

LOG = logging.getLogger(__name__)

PAY_AT_ONCE = 100


Status = Literal["suspected", "confirmed", "cleared"]


class _Case(NamedTuple):
    """A fraud case as its last fact left it."""

    status: Status
    rule: str
    suspects: tuple[str, ...]
    task_id: str | None
    event_id: str
    version: int


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
        self.payouts = Payouts(now_s)
        """Rewards that are to be paid."""
        self._cases: dict[str, _Case] = {}
        """Fraud case → what is known of it."""
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
                self.payouts.owe(new.key)
            else:
                self.payouts.over(new.key)

    def restore_seen(self, alive: Alive) -> None:
        """See Component: a case as its facts would have left it."""
        state = alive.state
        if isinstance(state, FraudState):
            status: Status = state.status  # type: ignore[assignment]  # the table has no other
            about = state.rule, state.suspects, state.task_id
            self._keep(state.key, _Case(status, *about, alive.event_id, state.version))

    def observe(self, fact: Fact) -> None:
        """Keep what is known of each case, for rewards that are calculated after it."""
        data, case, version = fact.data, fact.envelope.aggregate_id, fact.envelope.version
        known = self._cases.get(case)
        if known is not None and known.version >= version:
            return
        event_id = fact.envelope.event_id
        match data:
            case FraudSuspected():
                status: Status = "suspected"
            case FraudConfirmed():
                status = "confirmed"
            case FraudCleared():
                self._keep(case, _Case("cleared", "", (), None, event_id, version))
                return
            case _:
                return
        about = data.rule, data.suspects, data.task_id
        self._keep(case, _Case(status, *about, event_id, version))

    def _keep(self, case: str, known: _Case) -> None:
        self._cases[case] = known
        if known.task_id is not None:
            self._cases_of.setdefault(known.task_id, set()).add(case)

    def react(self, fact: Fact, where: Where) -> Iterable[Owed]:
        """As the rules say; and what is calculated (or released) is paid now, or by `due`.

        What cannot be paid waits, and holds up nothing else (see `payouts`). Raises: Unavailable:
        the sink does not say whether a payout has left, or the lease is out; it is read again.
        """
        if isinstance(fact.data, RewardCalculated | RewardReleased):
            state = self.peek("rewards", fact.envelope.aggregate_id)
            if not self._is_due(state):
                return
            if self.payouts.may_leave(state.key):
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
            known = self._cases[case]
            if known.status == "cleared":
                continue
            if known.rule != "colluding-votes" and command.miner_id not in known.suspects:
                continue
            held: WithholdReward | ReverseReward
            if known.status == "suspected":
                held = WithholdReward(case_id=case, reason="fraud_suspected")
            else:
                held = ReverseReward(case_id=case, reason="fraud_confirmed")
            name = str(uuid5(NAMESPACE, f"{known.event_id}/before/{owed.aggregate_id}"))
            yield Owed(name, owed.aggregate_id, held, owed.at, known.event_id)

    def before(self, aggregate_id: str, command: Command, at: datetime) -> Iterable[Owed]:
        """The payout that left before it could be booked: it is booked first, not held back."""
        if isinstance(command, WithholdReward | ReverseReward):
            ref = self._sink.find(aggregate_id)
            if ref is not None:
                yield self._booking(aggregate_id, ref, at, None)

    def due(self, now: datetime, control: ControlState) -> Iterable[Owed]:
        """Pay what could not be paid when it was calculated."""
        for _ in range(PAY_AT_ONCE):
            key = self.payouts.next()
            if key is None:
                return
            state = self.peek("rewards", key)
            if not self._is_due(state):  # its end is staged, or it is not served now
                self.payouts.later(key)
                continue
            tried = [*self._payout(state, now, None)]
            yield from tried
            if not tried:
                return  # it fails: not for each of them in one turn

    def _is_due(self, state: State | None) -> TypeGuard[RewardState]:
        if not isinstance(state, RewardState) or state.status != "calculated":
            return False
        return state.home in self.served

    def _payout(self, state: RewardState, at: datetime, cause: str | None) -> Iterable[Owed]:
        if not self.leads(state.home):
            raise Unavailable(f"payout {state.key}: the lease ran out before it")
        self.payouts.begin(state.key)
        try:
            ref = self._sink.pay(state.key, state.miner_id, state.amount_micro)
            booking = self._booking(state.key, ref, at, cause)
        except PayoutConflict as error:
            if self.payouts.stop(state.key, error.message):
                LOG.error("payout %s stops: %s; %s", state.key, error.message, error.hint)
        except Exception as error:  # noqa: BLE001 - whatever a payment system does to one payout
            why = error.message if isinstance(error, EverlodeError) else type(error).__name__
            LOG.warning("payout %s waits: %s", state.key, why)
            self.payouts.failed(state.key, why)
        else:
            self.payouts.left()
            yield booking

    def _booking(self, key: str, ref: str, at: datetime, cause: str | None) -> Owed:
        name = str(uuid5(NAMESPACE, f"pay/{key}"))
        return Owed(name, key, PayReward(payout_ref=ref), at, cause)

    def load(self) -> Load:
        """See Component."""
        return Load(
            current_tasks=len(self.payouts),
            work_done=self.folds.folded,
            queue_size=len(self.payouts),
            waits_for=self.payouts.oldest,
        )
