"""What is special about reward distributors: payouts leave through the sink."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import uuid5

from everlode.errors import Unavailable
from everlode.events.base import Fact
from everlode.events.commands import PayReward, ReverseReward, WithholdReward
from everlode.events.rewards import RewardCalculated, RewardReleased
from everlode.events.states import RewardState, State
from everlode.primary.component import Component, Owed
from everlode.rewards.sink import PayoutSink
from everlode.sdk.agent import Load
from everlode.state.reactions import NAMESPACE
from everlode.state.view import Where
from everlode.topics import Topology
from everlode.topics.names import fact_topic


class RewardComponent(Component):
    """Rewards of one home region."""

    name = "rewards"
    states = ("rewards",)

    def __init__(self, home: str, topology: Topology, sink: PayoutSink) -> None:
        self._sink = sink
        self.pending: dict[str, None] = {}
        super().__init__(home, topology)

    def cause_topics(self) -> list[str]:
        """Home facts only: decisions, slashes, and its own calculations."""
        origin = self.topology.origin(self.home)
        return [fact_topic(origin, c) for c in ("validations", "miners", "rewards")]

    def changed(self, old: State | None, new: State | None) -> None:
        """See Component."""
        if isinstance(new, RewardState):
            if new.status == "calculated":
                self.pending[new.key] = None
            else:
                self.pending.pop(new.key, None)

    def react(self, fact: Fact, where: Where) -> Iterable[Owed]:
        """As the rules say; and what is calculated (or released) is paid now.

        Raises: Unavailable: the sink did not answer; the fact is read again.
        """
        if isinstance(fact.data, RewardCalculated | RewardReleased):
            state = self.peek("rewards", fact.envelope.aggregate_id)
            if isinstance(state, RewardState) and state.status == "calculated":
                yield self._payout(state, fact)
            return
        for owed in super().react(fact, where):
            if isinstance(owed.command, WithholdReward | ReverseReward):
                yield from self._already_out(owed.aggregate_id, fact)
            yield owed

    def _already_out(self, key: str, fact: Fact) -> Iterable[Owed]:
        """The payout that left before it could be booked: it is booked first, not held back."""
        ref = self._sink.find(key)
        if ref is not None:
            yield self._booking(key, ref, fact)

    def _payout(self, state: RewardState, fact: Fact) -> Owed:
        try:
            ref = self._sink.pay(state.key, state.miner_id, state.amount_micro)
        except Unavailable as error:
            raise Unavailable(f"payout {state.key}: {error.message}") from None
        return self._booking(state.key, ref, fact)

    def _booking(self, key: str, ref: str, fact: Fact) -> Owed:
        return Owed(
            str(uuid5(NAMESPACE, f"pay/{key}")),
            key,
            PayReward(payout_ref=ref),
            fact.envelope.occurred_at,
            fact.envelope.event_id,
        )

    def load(self) -> Load:
        """See Component."""
        return Load(
            current_tasks=len(self.pending),
            work_done=self.folds.folded,
            queue_size=len(self.pending),
        )
