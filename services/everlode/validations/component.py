"""What is special about validation nodes: what waits for a vote of their kind."""

from __future__ import annotations

from collections.abc import Iterable

from everlode.events.base import Fact
from everlode.events.states import MinerState, State, ValidationState
from everlode.membership.agent import Load
from everlode.primary.component import Component, Owed
from everlode.snapshots.read import Alive
from everlode.state.shape import home_of
from everlode.state.view import Where
from everlode.topics import Topology
from everlode.topics.names import fact_topic


class ValidationComponent(Component):
    """Validations and fraud cases of one home region."""

    name = "validations"
    states = ("validations", "fraud")
    sees = ("miners",)

    def __init__(self, home: str, topology: Topology) -> None:
        self.pending: dict[str, ValidationState] = {}
        super().__init__(home, topology)
        self._tasks = fact_topic(topology.origin(home), "tasks")
        self._read = [0] * topology.partitions
        """Up to which stamp each partition of the tasks was read; stamps rise there."""
        self.folds.may_leave = self._may_leave

    def _may_leave(self, state: State) -> bool:
        """Not while a solution may come that was handed in before it: that makes it a copy."""
        if isinstance(state, ValidationState) and (state.solved_stamp or 0) > min(self._read):
            return False
        return self.view_of(state.home).may_leave(state)

    def react(self, fact: Fact, where: Where) -> Iterable[Owed]:
        """See Component."""
        if where.topic == self._tasks:
            self._read[where.partition] = max(self._read[where.partition], fact.envelope.stamp)
        return super().react(fact, where)

    def cause_topics(self) -> list[str]:
        """Home facts only: solutions, and its own decisions."""
        origin = self.topology.origin(self.home)
        return [fact_topic(origin, c) for c in ("tasks", "validations")]

    def changed(self, old: State | None, new: State | None) -> None:
        """See Component."""
        if isinstance(new, ValidationState):
            if new.status == "pending":
                self.pending[new.key] = new
            else:
                self.pending.pop(new.key, None)

    def restore_seen(self, alive: Alive) -> None:
        """See Component: who may review."""
        if isinstance(alive.state, MinerState):
            self.view_of(alive.state.home).miner_state(alive.state)

    def observe(self, fact: Fact) -> None:
        """See Component: who may review."""
        self.view_of(home_of(fact.envelope)).miner_fact(fact)

    def audits_due(self) -> list[str]:
        """Decided validations that an expert should look at. Any thread."""
        return [key for view in list(self.views.values()) for key in view.audits_due()]

    def load(self) -> Load:
        """See Component."""
        return Load(
            current_tasks=len(self.pending),
            work_done=self.folds.folded,
            queue_size=len(self.pending),
        )
