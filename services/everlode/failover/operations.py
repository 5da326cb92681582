"""The operations on the recovery stream of a region, as its coordinator publishes and reads them.

Ids are derived from the operation and the step, so that a repeat by another coordinator is known
as such. Shell.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid5

from everlode.control.fold import NodeState, ScopeState
from everlode.events.base import Event, Evidence, Fact
from everlode.events.health import NodeLost
from everlode.events.recovery import OperationStarted, OperationStep
from everlode.events.stamp import millis_of
from everlode.events.types import StepName, fitting
from everlode.failover.again import Again
from everlode.failover.estimates import UNKNOWN, Estimate, History
from everlode.failover.milestones import Milestone
from everlode.failover.planner import NAMESPACE, Finish, OwnStep, operation_id
from everlode.failover.policy import End, Later, Policies, Policy
from everlode.membership.agent import NodeAgent
from everlode.telemetry.entries import HandlingPublished
from everlode.telemetry.sink import Sink, silent


class Verdict(NamedTuple):
    """A verdict of the detector: a node is lost."""

    id: str
    at_ms: int
    """Wall milliseconds."""
    lost: NodeLost

    @classmethod
    def of(cls, fact: Fact, lost: NodeLost) -> Verdict:
        """The verdict in a record of `<origin>.health`."""
        return cls(fact.envelope.event_id, millis_of(fact.envelope.stamp), lost)


@dataclass(slots=True)
class Operation:
    """One handling of one lost node."""

    id: str
    node: NodeState
    """As the control log has it now."""
    lost_at: int
    """Control offset of the loss; -1: not known any more."""
    verdict: Verdict | None = None
    """None: its lease was not renewed, or another coordinator began."""
    estimate: Estimate = UNKNOWN
    began_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    @classmethod
    def of(cls, node: NodeState) -> Operation:
        """The handling of a node's loss, from the loss itself."""
        return cls(operation_id(node), node, node.changed_at)


class OperationLog:
    """Folds `<origin>.recovery` and publishes to it."""

    def __init__(self, agent: NodeAgent, policies: Policies, report: Sink = silent) -> None:
        self._agent = agent
        self._report = report
        self._policies = policies
        self._kinds = {policy.service.operation for policy in policies.values()}
        self._end_events = tuple(policy.service.ended for policy in policies.values())
        self._known: set[str] = set()
        """Events that have been read back."""
        self._mine: set[str] = set()
        """Events that this process has published."""
        self._again = Again()
        self._steps: Counter[str] = Counter()
        self._started_ms: dict[str, int] = {}
        """Operation → wall milliseconds of its start."""
        self.begun: dict[str, tuple[Evidence, ...]] = {}
        """Node → evidence of the verdict that its last handling began with; empty: of none."""
        self.history: defaultdict[type[Event], History] = defaultdict(History)
        """End event → what the handlings took that it ended."""
        self._done: defaultdict[str, set[str]] = defaultdict(set)
        """Operation → names of its steps that have been read back."""
        self.ended: set[str] = set()
        self.open: dict[str, OperationStarted] = {}
        """Operations of failovers that have not ended."""

    def observe(self, fact: Fact) -> None:
        """Fold a record of the stream; a repeat changes nothing."""
        (envelope, data), operation = fact, fact.envelope.aggregate_id
        if envelope.event_id in self._known:
            return
        self._known.add(envelope.event_id)
        for policy in self._policies.values():
            policy.observe_operation(fact)
        if isinstance(data, OperationStep):
            self._done[operation].add(data.step)
            self._steps[operation] += envelope.event_id not in self._mine
        if isinstance(data, OperationStarted):
            self._started_ms.setdefault(operation, millis_of(envelope.stamp))
            if data.kind in self._kinds:
                self.begun[data.subject] = data.evidence
                if operation not in self.ended:
                    self.open[operation] = data
        if isinstance(data, self._end_events) and operation not in self.ended:
            self.ended.add(operation)
            self.open.pop(operation, None)
            self.history[type(data)].observe(data)

    def done(self, op: Operation) -> frozenset[str]:
        """Names of the steps that have been read back."""
        return frozenset(self._done.get(op.id, ()))

    def waited_ms(self, op: Operation) -> int:
        """Wall milliseconds since it began, whoever began it."""
        began = self._started_ms.get(op.id, op.began_ms)
        return max(0, time.time_ns() // 1_000_000 - began)

    def estimate(self, policy: Policy[Any]) -> Estimate:
        """What to expect of a handling of this kind."""
        return self.history[policy.service.ended].estimate

    def start(self, op: Operation, epoch: int, evidence: Sequence[Evidence]) -> None:
        """Publish the start, once."""
        node = op.node
        data = OperationStarted(
            kind=self._policies[node.component].service.operation, region=node.region,
            subject=node.node_id,
            scope_name=f"{node.component}/{node.region}", scope_epoch=epoch,
            evidence=tuple(evidence),
        )  # fmt: skip
        if self._publish(op, "started", data):
            self.open[op.id] = data

    def own(self, op: Operation, step: OwnStep, beside: Event | None) -> None:
        """Publish a step of the service's own, and before it an event beside it, each once."""
        if beside is not None:
            self._publish(op, f"event/{step.name}/{fitting(step.detail)}", beside)
        self.step(op, step.name, step.detail, count=step.total)

    def step(
        self, op: Operation, name: StepName, detail: str, duration_ms: int = 0, *, count: int = 0
    ) -> None:
        """Publish a step that is done, once by its name and detail."""
        detail = fitting(detail)
        data = OperationStep(
            kind=self._policies[op.node.component].service.operation,
            number=self._steps[op.id] + 1, step=name,
            outcome="done", detail=detail, duration_ms=duration_ms, count=count,
        )  # fmt: skip
        self._steps[op.id] += self._publish(op, f"step/{name}/{detail}", data)

    def end(self, op: Operation, step: Finish, under_way: int, others: int) -> None:
        """Publish the end, once.

        `under_way`: what the node's last heartbeat had under way; `others`: see End.
        """
        end = End(
            operation=op.id, node=op.node, action=step.action, new_primary=step.new_primary,
            success=step.success, under_way=under_way,
            detect_ms=op.verdict.lost.silence_ms if op.verdict else 0,
            took_ms=self.waited_ms(op), estimate=op.estimate,
            others=others,
        )  # fmt: skip
        self._publish(op, "ended", self._policies[op.node.component].ended(end))

    def later(self, found: Later) -> None:
        """Publish what is known of an operation only after its end, once."""
        self._send(found.operation, found.node_id, "later", found.data)

    def changed(self, led: ScopeState, data: Event) -> None:
        """Publish that a scope's primary has changed, though none was lost, once an epoch."""
        operation = str(uuid5(NAMESPACE, f"changed/{led.scope}/{led.epoch}"))
        self._send(operation, led.primary, "changed", data)

    def publish(self, step: Milestone) -> None:
        """Publish what is told of a takeover, once."""
        self._send(step.operation, step.region, step.what, step.data)

    def _publish(self, op: Operation, what: str, data: Event) -> bool:
        """Publish once: again only when it has not been read back for long. True when sent."""
        return self._send(op.id, op.node.node_id, what, data)

    def _send(self, operation: str, node_id: str, what: str, data: Event) -> bool:
        event_id = str(uuid5(NAMESPACE, f"{operation}/{what}"))
        if event_id in self._known or not self._again.due(event_id):
            return False
        self._mine.add(event_id)
        self._agent.signal(data, topic="recovery", key=operation, partition=0, event_id=event_id)
        self._report(HandlingPublished(node_id, what))
        return True
