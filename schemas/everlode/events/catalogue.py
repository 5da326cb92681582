"""The closed catalogue: event type ↔ model ↔ Avro schema ↔ topic.

Invariants: type names are unique; every `.avsc` belongs to one entry or is a shared record. Pure.
"""

from __future__ import annotations

import inspect
from typing import NamedTuple

from everlode.events import (
    barriers,
    commands,
    control,
    health,
    heartbeats,
    miners,
    receipts,
    recovery,
    rewards,
    schemas,
    snapshots,
    states,
    tasks,
    validations,
)
from everlode.events.base import Command, CommandAnswered, Event, OperatorCommand, OwnCommand
from everlode.events.services import FRAUD, SERVICES

FACT_COMPONENTS = tuple(service.facts for service in SERVICES)
"""Components with facts and commands, in the order of their topics."""
SIGNALS = ("heartbeats", "health", "recovery", "receipts", "schemas")
"""Signal topics of an origin."""
STATE_COMPONENTS = (*FACT_COMPONENTS, FRAUD)
"""Components with a compacted state topic."""


class EventType(NamedTuple):
    """One event type. `topic` is the suffix of its topic, `*` for marks that go anywhere."""

    name: str
    model: type[Event]
    topic: str


def _models(module: object) -> list[type[Event]]:
    return [
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, Event) and value is not Event
    ]


_TOPICS = {
    tasks: "tasks",
    miners: "miners",
    validations: "validations",
    rewards: "rewards",
    barriers: "*",
    heartbeats: "heartbeats",
    health: "health",
    receipts: "receipts",
    schemas: "schemas",
    recovery: "recovery",
    control: "control",
}

EVENTS: dict[str, EventType] = {
    model.__name__: EventType(model.__name__, model, topic)
    for module, topic in _TOPICS.items()
    for model in _models(module)
}
COMMANDS: dict[str, type[Command]] = {
    name: value
    for name, value in inspect.getmembers(commands, inspect.isclass)
    if issubclass(value, Command) and value not in (Command, OwnCommand, OperatorCommand)
}
STATES: dict[str, type[states.State]] = {
    "tasks": states.TaskState,
    "miners": states.MinerState,
    "validations": states.ValidationState,
    "rewards": states.RewardState,
    "fraud": states.FraudState,
}
"""State component → its named tuple."""
REPLIES = {"CommandAnswered": CommandAnswered}
SNAPSHOTS = {
    cls.__name__: cls
    for cls in (
        snapshots.SnapshotEntry,
        snapshots.SnapshotMark,
        snapshots.SnapshotAnswers,
        snapshots.ArchivePage,
        snapshots.ArchivedSolution,
        snapshots.SnapshotTally,
        snapshots.AssignedTask,
    )
}
"""Records of snapshots and archives, and of the work of miners."""
