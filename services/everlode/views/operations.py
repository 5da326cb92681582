"""The operations that `<origin>.recovery` shows: failovers, backups, recoveries. Pure.

A fold like the coordinator's, for people: an operation is its start, its steps and its end, known
by its id; a repeat of an event changes nothing. The last `MOST` are kept.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from everlode.events.base import Event, Fact
from everlode.events.recovery import (
    BackupEnded,
    DeadLetterDiscarded,
    DeadLetterReplayed,
    HealingGivenUp,
    HealingStarted,
    HealingSucceeded,
    OperationStarted,
    OperationStep,
    RegistryChanged,
)
from everlode.failover.milestones import TAKEN
from everlode.topics.names import region_of, split_fact_topic

MOST = 1_000
MOST_STEPS = 1_000
HEALING = "healing"
"""Kind of what a supervisor does for one process; each start of it begins the operation anew."""
CHANGE = "registry-change"
"""Kind of a switchover's event for miners, which is one event and no operation on the wire."""
NO_END = ("ComponentRecoveryEnded", "ValidationDelayMeasured")
"""A part of a recovery, which goes on; what is known only after the end."""
DEAD_LETTER = "dead-letter"
"""Kind of what became of a dead letter, which is one event and no operation on the wire."""


@dataclass(slots=True)
class Operation:
    """One operation as it stands."""

    id: str
    kind: str = ""
    """Empty: its start is not kept any more."""
    region: str = ""
    subject: str = ""
    scope: str = ""
    epoch: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    success: bool | None = None
    """None: it has not ended."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    parts: list[dict[str, Any]] = field(default_factory=list)
    """What it ended with: `type` and fields; a recovery has one for each component too."""
    evidence: list[dict[str, Any]] = field(default_factory=list)
    """Where what it began for can be checked: topic, partition, offset and a note."""
    known: set[str] = field(default_factory=set)

    def shown(self) -> dict[str, Any]:
        """As the API answers it."""
        names = (
            "id", "kind", "region", "subject", "scope", "epoch", "started_at", "ended_at",
            "success", "steps", "parts", "evidence",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


class Operations:
    """The fold."""

    def __init__(self) -> None:
        self._all: OrderedDict[str, Operation] = OrderedDict()
        self.ended: Counter[tuple[str, str, bool]] = Counter()
        """(kind, scope or region, success) → operations that have ended."""
        self.cuts: dict[str, int] = {}
        """Region → stamp of the cut of its newest backup that is whole."""

    def get(self, operation_id: str) -> Operation | None:
        """An operation, or None."""
        return self._all.get(operation_id)

    def newest(self, most: int) -> list[Operation]:
        """The last that began, newest first."""
        return list(reversed(self._all.values()))[:most]

    def observe(self, fact: Fact) -> Operation:
        """Fold a record of the stream."""
        envelope, data = fact
        found = self._all.get(envelope.aggregate_id)
        if found is None:
            found = self._all[envelope.aggregate_id] = Operation(envelope.aggregate_id)
            found.region = region_of(envelope.origin)
            if len(self._all) > MOST:
                self._all.popitem(last=False)
        if envelope.event_id in found.known or len(found.known) > MOST_STEPS:
            return found
        found.known.add(envelope.event_id)
        match data:
            case OperationStarted():
                found.kind, found.subject = data.kind, data.subject
                found.region, found.scope = data.region or found.region, data.scope_name
                found.epoch, found.started_at = data.scope_epoch, envelope.occurred_at
                found.evidence = [each.model_dump() for each in data.evidence]
            case OperationStep():
                self._step(found, envelope.occurred_at, data)
            case RegistryChanged() if found.kind:
                pass  # for miners; the failover's step says so too
            case RegistryChanged():
                found.kind, found.subject, found.scope = CHANGE, data.to_node, data.scope_name
                found.epoch, found.success = data.scope_epoch, True
                found.started_at = found.ended_at = envelope.occurred_at
                found.parts.append(_part(envelope.occurred_at, data))
            case DeadLetterReplayed() | DeadLetterDiscarded():
                found.kind, found.subject = DEAD_LETTER, data.topic
                found.started_at = found.ended_at = envelope.occurred_at
                found.success = True
                found.parts.append(_part(envelope.occurred_at, data))
            case HealingStarted():
                found.kind, found.subject = HEALING, data.process
                found.started_at, found.ended_at, found.success = envelope.occurred_at, None, None
                found.parts = [_part(envelope.occurred_at, data)]
            case _:
                self._end(found, envelope.occurred_at, data)
        return found

    def _step(self, found: Operation, at: datetime, data: OperationStep) -> None:
        found.kind = found.kind or data.kind
        found.steps.append({"at": at, **data.model_dump()})
        if data.kind == "takeover" and data.subject == TAKEN and found.ended_at is None:
            found.ended_at, found.success = at, True
            self.ended[found.kind, found.region, True] += 1

    def _end(self, found: Operation, at: datetime, data: Event) -> None:
        name = type(data).__name__
        found.parts.append(_part(at, data))
        if name in NO_END or found.ended_at is not None:
            return
        if isinstance(data, BackupEnded) and data.success:
            self.cuts[found.region] = max(data.cut_stamp, self.cuts.get(found.region, 0))
        fields = data.model_dump()
        success = bool(fields.get("success", fields.get("overall_success", False)))
        if isinstance(data, HealingSucceeded | HealingGivenUp):
            found.kind, found.subject = HEALING, data.process
            success = isinstance(data, HealingSucceeded)
        found.ended_at, found.success = at, success
        self.ended[found.kind or name, found.scope or found.region, success] += 1


def _part(at: datetime, data: Event) -> dict[str, Any]:
    return {"at": at, "type": type(data).__name__, **data.model_dump()}


def about(operations: Operations, topic: str, fact: Fact) -> tuple[str, str]:
    """The operation and the scope that a record is of, or empty; folds those of operations."""
    origin, component = split_fact_topic(topic)
    scope = str(getattr(fact.data, "scope_name", "") or fact.envelope.scope)
    if component == "recovery":
        operation = operations.observe(fact)
        return operation.id, operation.scope or scope
    if component == "health" and not scope:
        found: Any = getattr(fact.data, "component", "")
        scope = f"{found}/{region_of(origin)}" if found else ""
    return "", scope
