"""The failover of validators: what waits for the lost one's kind goes to others, or waits on.

    Decide ─► AwaitFence ─┬─► Redistribute ─► Finish    others of its kind work
     (a lost primary)     ├─► Escalate ─────► Finish    nobody does: an expert gets what is late
                          └─► Defer ────────► Finish    nobody does, and it is an expert

Votes are facts, and stay. Whose share a validation is follows from the nodes that the control log
has at work (`balancing.judges`), so the loss itself gives it to others; Redistribute records it.
Escalations and deferrals are the primary's own (`validations.absent`), as no command from outside
may ask for them; Defer waits until all that wait for an expert have a later deadline. Pure, but for
what it has observed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from everlode.control.fold import NodeState, ScopeState
from everlode.events.base import Event, Fact
from everlode.events.recovery import ValidationDelayMeasured, ValidationRecoveryEnded
from everlode.events.services import BY_FACTS
from everlode.events.stamp import millis_of
from everlode.events.states import ValidationState
from everlode.events.types import StepName
from everlode.failover.epochs import OpenedEpochs
from everlode.failover.planner import (
    AwaitOthers,
    Step,
    View,
    at_work_beside,
    finish,
    succession,
)
from everlode.failover.policy import End, Later, Succession
from everlode.snapshots.read import Snapshot
from everlode.validations.queue import Queue, Waiting

HANDED_OVER: tuple[StepName, ...] = ("redistribute", "escalate", "defer")


class HandOver(NamedTuple):
    """What waits for a kind goes on so, since one of its nodes is lost."""

    name: Literal["redistribute", "escalate", "defer"]
    kind: str
    total: int
    to: tuple[str, ...]
    """The nodes of that kind that work; none to escalate or defer."""

    @property
    def detail(self) -> str:
        """See OwnStep."""
        match self.name:
            case "redistribute":
                return f"what waits for {self.kind} votes is for {', '.join(self.to)}"
            case "escalate":
                return f"no {self.kind} validator works: an expert that works gets what is late"
            case _:
                return f"no {self.kind} validator works: what waits has a later deadline"


def kind_of(node: NodeState) -> str:
    """A validator's kind."""
    return node.kind or "automatic"


class ValidationPolicy(Succession):
    """See failover.policy."""

    service = BY_FACTS["validations"]
    facts: str | None = "validations"

    def __init__(self, partitions: int) -> None:
        self._queue = Queue()
        self._epochs = OpenedEpochs(partitions)

    def restore(self, snapshot: Snapshot) -> None:
        """See Policy."""
        for alive in snapshot.entries():
            if isinstance(alive.state, ValidationState):
                self._queue.restore(alive.state)
        for partition, mark in snapshot.marks.items():
            self._epochs.restore(partition, mark)

    def observe(self, partition: int, fact: Fact) -> None:
        """See Policy."""
        self._queue.observe(fact)
        self._epochs.observe(partition, fact)

    def observe_operation(self, fact: Fact) -> None:
        """See Policy: what an end has estimated is measured."""
        operation = fact.envelope.aggregate_id
        if isinstance(fact.data, ValidationRecoveryEnded):
            self._queue.delays.ended(operation, millis_of(fact.envelope.stamp), fact.data)
        elif isinstance(fact.data, ValidationDelayMeasured):
            self._queue.delays.measured(operation)

    def later(self) -> Iterator[Later]:
        """See Policy: the delays that are known now."""
        for operation, data in self._queue.due():
            yield Later(operation, data.failed_validator, data)

    def opened(self, led: ScopeState) -> int:
        """See Policy: by the validation topic itself."""
        return self._epochs.lowest(led.scope)

    def opened_ms(self, led: ScopeState) -> int | None:
        """See Policy."""
        return self._epochs.at_ms(led.scope, led.epoch)

    def work(self, _node_id: str) -> Waiting:
        """See Policy: all that waits; the plan looks at the lost node's kind."""
        return self._queue.waiting

    def plan(self, view: View[Waiting]) -> Step:
        """See Policy."""
        return succession(view) or _hand_over(view) or finish(view)

    def awaited(self, view: View[Waiting]) -> View[Waiting]:
        """See Planner: the primary has deferred what waits."""
        return view._replace(work=view.work._replace(deferred=view.work.all))

    def ended(self, end: End) -> Event:
        """See Policy."""
        kind, waiting = kind_of(end.node), self._queue.waiting
        count = waiting.all.get(kind, 0)
        return ValidationRecoveryEnded.model_validate(
            {
                "failed_validator": end.node.node_id,
                "validator_type": kind,
                "redistributed_tasks": count if end.others else 0,
                "estimated_delay_ms": self._queue.delay_ms(kind, end.others + 1, end.others),
                "deferred_tasks": 0 if end.others else waiting.deferred.get(kind, 0),
                "actual_recovery_ms": end.took_ms,
                "estimated_recovery_ms": end.estimate.ms,
                "estimate_cases": end.estimate.cases,
                "success": end.success,
            }
        )


def _hand_over(view: View[Waiting]) -> Step | None:
    """What becomes of what waits for the lost node's kind; None when that is recorded, or nothing
    waits."""
    kind = kind_of(view.node)
    count = view.work.all.get(kind, 0)
    if not count or any(name in view.done for name in HANDED_OVER):
        return None
    others = at_work_beside(view.control, view.node)
    if others:
        return HandOver("redistribute", kind, count, others)
    if kind != "expert":
        return HandOver("escalate", kind, count, ())
    left = count - view.work.deferred.get(kind, 0)
    if left:
        return AwaitOthers(f"{left} of {count} validations wait for the primary to defer them")
    return HandOver("defer", kind, count, ())
