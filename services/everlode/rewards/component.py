"""What is special about reward distributors: payouts leave through the sink."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeGuard

from everlode.control.fold import ControlState
from everlode.control.scopes import Scope
from everlode.errors import EverlodeError, FencedOut, Unavailable
from everlode.events import commands as c
from everlode.events.base import Command, Fact
from everlode.events.ids import own_id
from everlode.events.rewards import RewardCalculated, RewardReduced, RewardReleased
from everlode.events.states import FraudState, RewardState, State
from everlode.events.validations import FraudCleared, FraudConfirmed, FraudSuspected
from everlode.membership.agent import Load
from everlode.primary.component import Component, Owed
from everlode.rewards.cases import Cases
from everlode.rewards.debts import Debts
from everlode.rewards.payouts import Payouts
from everlode.rewards.sink import Fence, PayoutConflict, PayoutSink
from everlode.snapshots.read import Alive
from everlode.state.reward import due_micro
from everlode.state.shape import refuse
from everlode.state.view import Where
from everlode.topics import Topology
from everlode.topics.names import fact_topic

LOG = logging.getLogger(__name__)

PAY_AT_ONCE = 100
FAILS_S = 0.1
"""Payouts that fail may take so much of a turn; the next turn goes on behind them."""
REPAID = "repaid"
"""Reference of a payout of nothing: all of the reward repaid debts."""


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
        self._sink, self._now_s = sink, now_s
        self.payouts = Payouts(now_s)
        """Rewards that are to be paid."""
        self.cases = Cases()
        self.debts = Debts()
        super().__init__(home, topology)

    def cause_topics(self) -> list[str]:
        """Home facts only: decisions, slashes, and its own calculations."""
        origin = self.topology.origin(self.home)
        return [fact_topic(origin, topic) for topic in ("validations", "miners", "rewards")]

    def changed(self, old: State | None, new: State | None) -> None:
        """See Component."""
        if isinstance(new, RewardState):
            if new.status == "calculated":
                self.payouts.owe(new.key)
            else:
                self.payouts.over(new.key)
            self.debts.changed(new)

    def restore_seen(self, alive: Alive) -> None:
        """See Component: a case as its facts would have left it."""
        if isinstance(alive.state, FraudState):
            self.cases.restore(alive.state, alive.event_id)

    def observe(self, fact: Fact) -> None:
        """Keep what is known of each case, for rewards that are calculated after it."""
        self.cases.observe(fact)

    def react(self, fact: Fact, where: Where) -> Iterable[Owed]:
        """As the rules say; and what is calculated (or released) is paid now, or by `due`.

        What cannot be paid waits, and holds up nothing else (see `payouts`); so does what is to be
        held back while the sink does not say whether it has left. Raises: Unavailable: the lease is
        out; it is read again. FencedOut: the sink has been asked in a higher epoch.
        """
        if isinstance(fact.data, RewardCalculated | RewardReleased | RewardReduced):
            state = self.peek("rewards", fact.envelope.aggregate_id)
            if not self._is_due(state):
                return
            if self.payouts.may_leave(state.key):
                yield from self._payout(state, fact.envelope.occurred_at, fact.envelope.event_id)
            return
        if isinstance(fact.data, self.needs_committed):
            self.observe(fact)
        for owed in super().react(fact, where):
            if isinstance(owed.command, c.ReleaseReward) and self.cases.is_open(
                owed.command.case_id
            ):
                continue  # it was opened anew since: what clears it then is still to be read
            try:
                yield from self._booked_before(owed.aggregate_id, owed.command, owed.at)
            except Unavailable:
                continue  # `due` holds it back once the sink answers; it does not leave until then
            yield owed
            if isinstance(owed.command, c.CalculateReward):
                yield from self.cases.holds(owed.aggregate_id, owed.command, owed.at, owed.cause)

    def before(self, aggregate_id: str, command: Command, at: datetime) -> Iterable[Owed]:
        """See Component. Raises: Refusal: it would release a reward from under an open case, or
        nobody knows now whether its payout has left."""
        if isinstance(command, c.ReleaseReward) and self.cases.is_open(command.case_id):
            raise refuse("case_open", f"case {command.case_id} is open", "resolve the case")
        try:
            yield from self._booked_before(aggregate_id, command, at)
        except Unavailable as error:
            raise refuse("payout_unknown", error.message, "send it again later") from None

    def _booked_before(self, aggregate_id: str, command: Command, at: datetime) -> Iterable[Owed]:
        """The payout that left before it could be booked: it is booked first, not held back.

        Raises: Unavailable: the sink does not say whether it has left. One that is withheld has
        not: it was asked before.
        """
        if isinstance(command, c.WithholdReward | c.ReverseReward):
            state = self.peek("rewards", aggregate_id)
            if not isinstance(state, RewardState) or state.status != "calculated":
                return
            fence = self._fence(state.home)
            if fence is None:  # it is refused
                return
            ref = self._asked(aggregate_id, fence)
            if ref is not None:
                yield self._booking(aggregate_id, ref, at, None)

    def _asked(self, key: str, fence: Fence) -> str | None:
        """Reference of a payout that has left; None when it has not.

        Raises: Unavailable: the sink does not answer, for this one, or for now at all. FencedOut.
        """
        if self.payouts.rests:
            raise Unavailable(f"payout {key}: the payment system does not answer now")
        self.payouts.begin(key)
        try:
            return self._sink.find(key, fence)
        except FencedOut:  # another one leads, and knows
            raise
        except Exception as error:  # noqa: BLE001 - whatever a payment system does to one payout
            why = error.message if isinstance(error, EverlodeError) else type(error).__name__
            self.payouts.failed(key, why)
            raise Unavailable(f"payout {key}: whether it has left is not known: {why}") from None

    def _holds(self, state: RewardState, at: datetime) -> list[Owed]:
        """What holds back a reward that a case concerns; nothing while the sink does not answer."""
        owed = list(self.cases.holds(state.key, state, at, None))
        try:
            booked = [*self._booked_before(state.key, owed[0].command, at)] if owed else []
        except Unavailable:
            return []
        return [*booked, *owed]

    def due(self, now: datetime, control: ControlState) -> Iterable[Owed]:
        """Pay, or hold back for a case, what could not be when that was to be done."""
        began = self._now_s()
        for _ in range(PAY_AT_ONCE):
            key = self.payouts.next()
            if key is None:
                return
            state = self.peek("rewards", key)
            if not self._is_due(state):  # its end is staged, it is not served, or a case is open
                self.payouts.later(key)
                if self._is_payable(state):
                    yield from self._holds(state, now)
                continue
            tried = [*self._payout(state, now, None)]
            yield from tried
            if not tried and self._now_s() - began >= FAILS_S:
                return

    def _is_payable(self, state: State | None) -> TypeGuard[RewardState]:
        if not isinstance(state, RewardState) or state.status != "calculated":
            return False
        return state.home in self.served

    def _is_due(self, state: State | None) -> TypeGuard[RewardState]:
        if not self._is_payable(state):
            return False
        # what a case says may be known before it is reacted to
        return next(self.cases.concerning(state.task_id, state.miner_id), None) is None

    def _payout(self, state: RewardState, at: datetime, cause: str | None) -> Iterable[Owed]:
        if not self.leads(state.home):
            raise Unavailable(f"payout {state.key}: the lease ran out before it")
        fence = self._fence(state.home)
        if fence is None:
            raise Unavailable(f"payout {state.key}: its scope is not served now")
        repaid = list(self.debts.repayments(state, self.peek, at, cause))
        if repaid and not self._has_left(state, fence):
            self.payouts.later(state.key)  # the rest, once that is committed
            yield from repaid
            return
        self.payouts.begin(state.key)
        try:
            due = due_micro(state)
            ref = self._sink.pay(state.key, state.miner_id, due, fence) if due else REPAID
            booking = self._booking(state.key, ref, at, cause)
        except FencedOut:  # another one leads, and pays what is owed
            raise
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

    def _fence(self, home: str) -> Fence | None:
        """In whose name the sink is asked; None where nothing is served."""
        epoch = self.served.get(home)
        return None if epoch is None else Fence(str(Scope(self.name, home)), epoch)

    def _has_left(self, state: RewardState, fence: Fence) -> bool:
        """Whether its payout has left, or may have: then it is asked for as it was."""
        try:
            return self._sink.find(state.key, fence) is not None
        except Unavailable:
            return True

    def _booking(self, key: str, ref: str, at: datetime, cause: str | None) -> Owed:
        return Owed(own_id("pay", key), key, c.PayReward(payout_ref=ref), at, cause, "pay")

    def load(self) -> Load:
        """See Component."""
        return Load(
            current_tasks=len(self.payouts),
            work_done=self.folds.folded,
            queue_size=len(self.payouts),
            waits_for=self.payouts.oldest,
        )
