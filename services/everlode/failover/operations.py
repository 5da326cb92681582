"""The recovery stream of a region, as its coordinator writes and reads it.

Ids are derived from the operation and the step, so that a repeat by another coordinator is known
as such. Shell.
"""

from __future__ import annotations

import time
from statistics import fmean
from typing import Any
from uuid import uuid5

from everlode.control.fold import NodeState
from everlode.events import recovery as r
from everlode.events.base import Event, Evidence, Fact
from everlode.events.stamp import millis_of
from everlode.failover.planner import NAMESPACE, operation_id
from everlode.sdk.agent import NodeAgent

KINDS = {
    "task-manager": "task-manager-failover",
    "miner-registry": "registry-failover",
    "validation": "validation-failover",
    "rewards": "reward-failover",
}
ENDED = (
    r.TaskManagerRecoveryEnded,
    r.RegistryRecoveryEnded,
    r.ValidationRecoveryEnded,
    r.RewardRecoveryEnded,
)


class Operation:
    """One handling of one lost node."""

    def __init__(self, node: NodeState) -> None:
        self.id = operation_id(node)
        self.node = node
        self.started_ms = time.time_ns() // 1_000_000
        self.detect_ms = 0
        self.migrated: set[str] = set()
        self.decided = False
        self.steps = 0
        self.seen: set[str] = set()
        self.ended = False
        self.estimate_ms: int | None = None


class Journal:
    """Folds `<origin>.recovery` and appends to it."""

    def __init__(self, agent: NodeAgent) -> None:
        self._agent = agent
        self._known: set[str] = set()
        self.ended: set[str] = set()
        self.started: dict[str, int] = {}
        """Operation → wall milliseconds of its start."""
        self._history: dict[str, list[int]] = {}

    def saw(self, fact: Fact) -> None:
        """A record of the stream."""
        envelope, data = fact
        if envelope.event_id in self._known:
            return
        self._known.add(envelope.event_id)
        if isinstance(data, r.OperationStarted):
            self.started.setdefault(envelope.aggregate_id, millis_of(envelope.stamp))
        if isinstance(data, ENDED):
            self.ended.add(envelope.aggregate_id)
            kind = type(data).__name__
            self._history.setdefault(kind, []).append(data.actual_recovery_ms)

    def estimate(self, component: str) -> int | None:
        """Mean of what earlier handlings of this kind took; None without any."""
        kind = {
            "task-manager": "TaskManagerRecoveryEnded",
            "miner-registry": "RegistryRecoveryEnded",
            "validation": "ValidationRecoveryEnded",
            "rewards": "RewardRecoveryEnded",
        }[component]
        past = self._history.get(kind)
        return round(fmean(past)) if past else None

    def _say(self, op: Operation, what: str, event: type[Event], /, **data: Any) -> None:
        event_id = str(uuid5(NAMESPACE, f"{op.id}/{what}"))
        if event_id in self._known or what in op.seen:
            return
        op.seen.add(what)
        self._agent.signal(
            event.model_validate(data), topic="recovery", key=op.id, partition=0, event_id=event_id
        )

    def start(self, op: Operation, evidence: tuple[Evidence, ...]) -> None:
        """Publish the start, once."""
        node = op.node
        self._say(
            op, "started", r.OperationStarted,
            kind=KINDS[node.component], region=node.region, subject=node.node_id,
            scope_name=f"{node.component}/{node.region}", scope_epoch=0, evidence=evidence,
        )  # fmt: skip

    def step(self, op: Operation, step: str, detail: str, duration_ms: int) -> None:
        """Publish a step that is done, once by its name and detail."""
        op.steps += 1
        self._say(
            op, f"step/{step}/{detail}", r.OperationStep, kind=KINDS[op.node.component],
            number=op.steps, step=step, outcome="done", detail=detail, duration_ms=duration_ms,
        )  # fmt: skip

    def end(self, op: Operation, action: str, new_primary: str | None, affected: int) -> None:
        """Publish the end, once."""
        op.ended = True
        node = op.node
        began = self.started.get(op.id, op.started_ms)
        took = max(0, time.time_ns() // 1_000_000 - began)
        match node.component:
            case "task-manager":
                self._say(
                    op, "ended", r.TaskManagerRecoveryEnded, failed_node=node.node_id,
                    recovery_action=action, new_primary=new_primary, target_region=None,
                    migrated_tasks=len(op.migrated), estimated_recovery_ms=op.estimate_ms,
                    actual_recovery_ms=took, detect_ms=op.detect_ms, success=True,
                )  # fmt: skip
            case "miner-registry":
                self._say(
                    op, "ended", r.RegistryRecoveryEnded, failed_registry=node.node_id,
                    backup_registry=new_primary or "", affected_miners=affected,
                    data_sync_completed=True, actual_recovery_ms=took, success=True,
                )  # fmt: skip
            case "validation":
                self._say(
                    op, "ended", r.ValidationRecoveryEnded, failed_validator=node.node_id,
                    validator_type=node.kind or "automatic", redistributed_tasks=affected,
                    estimated_delay_ms=op.estimate_ms, actual_recovery_ms=took, success=True,
                )  # fmt: skip
            case _:
                self._say(
                    op, "ended", r.RewardRecoveryEnded, failed_distributor=node.node_id,
                    new_primary=new_primary, pending_payouts=affected, actual_recovery_ms=took,
                    success=True,
                )  # fmt: skip
