"""What is special about validation nodes: what waits for a vote of their kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import get_args

from everlode.control.fold import ControlState
from everlode.events.base import Fact
from everlode.events.nodes import NodeStatus
from everlode.events.states import FraudState, MinerState, State, ValidationState
from everlode.events.types import FraudRule, ValidatorKind
from everlode.membership.agent import Load
from everlode.primary.component import Component, Notice, Owed
from everlode.snapshots.read import Alive
from everlode.state.shape import home_of
from everlode.state.view import Where
from everlode.topics import Topology
from everlode.topics.names import fact_topic
from everlode.validations.absent import absent_kinds, all_owed, is_forsaken, working_kinds
from everlode.validations.waits import Waits

ALIVE = frozenset({NodeStatus.HEALTHY, NodeStatus.DEGRADED, NodeStatus.DRAINING})
VALIDATION, CASE = "validation/", "case/"
"""Kinds of work that waits: a validation by who judges it, a case by its rule."""
KINDS = [VALIDATION + kind for kind in get_args(ValidatorKind)]
KINDS += [CASE + rule for rule in get_args(FraudRule)]


def _waits_for(work: str) -> str:
    if work.startswith(VALIDATION):
        return f"votes of {work.removeprefix(VALIDATION)}"
    return "an expert's look at the solution, or the member's further work"


class ValidationComponent(Component):
    """Validations and fraud cases of one home region."""

    name = "validations"
    states = ("validations", "fraud")
    sees = ("miners",)

    def __init__(self, home: str, topology: Topology) -> None:
        self.pending: dict[str, ValidationState] = {}
        self._waits = Waits(self.name, KINDS, _waits_for)
        super().__init__(home, topology)
        self._tasks = fact_topic(topology.origin(home), "tasks")
        self._read = [0] * topology.partitions
        """Up to which stamp each partition of the tasks was read; stamps rise there."""
        self.folds.may_leave = self._may_leave

    def _may_leave(self, state: State) -> bool:
        """Not while a solution may come that was handed in before it: that makes it a copy.

        Nor a case while its solution is not judged: confirmed before, it is still to bar a reward.
        """
        if isinstance(state, ValidationState) and (state.solved_stamp or 0) > min(self._read):
            return False
        if isinstance(state, FraudState) and state.validation_id in self.pending:
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
                self._waits.begins(new.key, f"{VALIDATION}{new.kind}")
            else:
                self.pending.pop(new.key, None)
                self._waits.ends(new.key)
        elif isinstance(new, FraudState):
            if new.status == "suspected":
                self._waits.begins(new.key, f"{CASE}{new.rule}")
            else:
                self._waits.ends(new.key)

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

    def due(self, now: datetime, control: ControlState) -> Iterable[Owed]:
        """See Component: what waits for a kind of which no node works any more."""
        absent = absent_kinds(control, self.home)
        pending = self.pending.values() if absent else ()
        waiting = [s for s in pending if s.kind in absent and s.home in self.served]
        forsaken = any(is_forsaken(s, now) for s in waiting)
        self._waits.escalate([f"{VALIDATION}expert"] if forsaken else ())
        return all_owed(waiting, now, experts="expert" in working_kinds(control, self.home))

    def opens(self, epochs: Mapping[str, int]) -> None:
        """See Component: what a predecessor has published is not known."""
        self._waits.led(",".join(f"{home}:{epoch}" for home, epoch in sorted(epochs.items())))

    def notices(self, now_s: float, control: ControlState) -> Iterable[Notice]:
        """See Component: what has waited for too long, of each kind."""
        nodes = Counter(
            node.kind for node in control.nodes_of(self.home, "validation") if node.status in ALIVE
        )

        def able(work: str) -> int:
            return nodes[work.removeprefix(VALIDATION)] if work.startswith(VALIDATION) else -1

        return self._waits.notices(now_s, able)

    def load(self) -> Load:
        """See Component."""
        return Load(
            current_tasks=len(self.pending),
            work_done=self.folds.folded,
            queue_size=len(self.pending),
        )
