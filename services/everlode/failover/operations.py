"""The recovery stream of a region, as its coordinator writes and reads it.

Ids are derived from the operation and the step, so that a repeat by another coordinator is known
as such. Shell.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from statistics import fmean
from typing import Any
from uuid import uuid5

from everlode.control.fold import NodeState
from everlode.events import recovery as r
from everlode.events.base import Event, Evidence, Fact
from everlode.events.services import BY_SCOPE, SERVICES
from everlode.events.stamp import millis_of
from everlode.failover.planner import NAMESPACE, Finish, operation_id
from everlode.membership.agent import NodeAgent

KINDS = {service.scope: service.operation for service in SERVICES}
AGAIN_S = 10.0
ENDED = tuple(service.ended for service in SERVICES)


class Operation:
    """One handling of one lost node."""

    def __init__(self, node: NodeState, op_id: str | None = None) -> None:
        self.id = op_id or operation_id(node)
        self.node = node
        self.lost_at = -1 if op_id else node.changed_at
        """Control offset of the loss; -1: not known any more."""
        self.started_ms = time.time_ns() // 1_000_000
        self.detect_ms = 0
        self.verdict_id: str | None = None
        self.verdict_ms: int | None = None
        self.estimate_ms: int | None = None


class Journal:
    """Folds `<origin>.recovery` and appends to it."""

    def __init__(self, agent: NodeAgent, say: Callable[[str], None]) -> None:
        self._agent = agent
        self._tell = say
        self._known: set[str] = set()
        """Events that have been read back."""
        self._sent: dict[str, float] = {}
        self._steps: Counter[str] = Counter()
        self.ended: set[str] = set()
        self.started: dict[str, int] = {}
        """Operation → wall milliseconds of its start."""
        self.open: dict[str, r.OperationStarted] = {}
        """Operations of failovers that have not ended."""
        self._history: dict[str, list[int]] = {}

    def saw(self, fact: Fact) -> None:
        """A record of the stream."""
        envelope, data = fact
        if envelope.event_id in self._known:
            return
        self._known.add(envelope.event_id)
        if isinstance(data, r.OperationStep) and envelope.event_id not in self._sent:
            self._steps[envelope.aggregate_id] += 1
        if isinstance(data, r.OperationStarted):
            self.started.setdefault(envelope.aggregate_id, millis_of(envelope.stamp))
            if data.kind in KINDS.values() and envelope.aggregate_id not in self.ended:
                self.open[envelope.aggregate_id] = data
        if isinstance(data, ENDED) and envelope.aggregate_id not in self.ended:
            self.ended.add(envelope.aggregate_id)
            self.open.pop(envelope.aggregate_id, None)
            kind = type(data).__name__
            self._history.setdefault(kind, []).append(data.actual_recovery_ms)

    def estimate(self, component: str) -> int | None:
        """Mean of what earlier handlings of this kind took; None without any."""
        past = self._history.get(BY_SCOPE[component].ended.__name__)
        return round(fmean(past)) if past else None

    def _say(self, op: Operation, what: str, event: type[Event], /, **data: Any) -> bool:
        """Publish once: again only when it has not been read back for long. True when sent."""
        event_id = str(uuid5(NAMESPACE, f"{op.id}/{what}"))
        now = time.monotonic()
        if event_id in self._known or now - self._sent.get(event_id, -1e9) < AGAIN_S:
            return False
        self._sent[event_id] = now
        made = event.model_validate(data)
        self._agent.signal(made, topic="recovery", key=op.id, partition=0, event_id=event_id)
        if isinstance(made, r.OperationStarted):
            self.open[op.id] = made
        self._tell(f"{op.node.node_id}: {what}")
        return True

    def start(self, op: Operation, epoch: int, evidence: tuple[Evidence, ...]) -> None:
        """Publish the start, once."""
        node = op.node
        self._say(
            op, "started", r.OperationStarted,
            kind=KINDS[node.component], region=node.region, subject=node.node_id,
            scope_name=f"{node.component}/{node.region}", scope_epoch=epoch, evidence=evidence,
        )  # fmt: skip

    def step(self, op: Operation, step: str, detail: str, duration_ms: int) -> None:
        """Publish a step that is done, once by its name and detail."""
        what = f"step/{step}/{detail}"
        number = self._steps[op.id] + 1
        self._steps[op.id] += self._say(
            op, what, r.OperationStep, kind=KINDS[op.node.component], number=number, step=step,
            outcome="done", detail=detail, duration_ms=duration_ms,
        )  # fmt: skip

    def end(self, op: Operation, step: Finish, migrated: int, affected: int) -> None:
        """Publish the end, once. `affected`: what the node's last beat had under way."""
        new_primary = step.new_primary
        node = op.node
        began = self.started.get(op.id, op.started_ms)
        took = max(0, time.time_ns() // 1_000_000 - began)
        match node.component:
            case "task-manager":
                self._say(
                    op, "ended", r.TaskManagerRecoveryEnded, failed_node=node.node_id,
                    recovery_action=step.action, new_primary=new_primary, target_region=None,
                    migrated_tasks=migrated, estimated_recovery_ms=op.estimate_ms,
                    actual_recovery_ms=took, detect_ms=op.detect_ms, success=step.success,
                )  # fmt: skip
            case "miner-registry":
                self._say(
                    op, "ended", r.RegistryRecoveryEnded, failed_registry=node.node_id,
                    backup_registry=new_primary or "", affected_miners=affected,
                    # a primary leads once it has read its log to the end
                    data_sync_completed=step.success and new_primary is not None,
                    actual_recovery_ms=took, success=step.success,
                )  # fmt: skip
            case "validation":
                self._say(
                    op, "ended", r.ValidationRecoveryEnded, failed_validator=node.node_id,
                    validator_type=node.kind or "automatic", redistributed_tasks=affected,
                    estimated_delay_ms=op.estimate_ms, actual_recovery_ms=took,
                    success=step.success,
                )  # fmt: skip
            case _:
                self._say(
                    op, "ended", r.RewardRecoveryEnded, failed_distributor=node.node_id,
                    new_primary=new_primary, pending_payouts=affected, actual_recovery_ms=took,
                    success=step.success,
                )  # fmt: skip
