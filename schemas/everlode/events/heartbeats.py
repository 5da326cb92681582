"""Signals of life, and what a probe said.

The Avro schema of the same name documents each field and its unit. Pure.
"""

from __future__ import annotations

from everlode.events.base import Event
from everlode.events.types import (
    Count,
    Items,
    NodeStatusName,
    Ppm,
    ProbeAnswer,
    Role,
    Text,
)


class NodeBeat(Event):
    """A service node lives and works."""

    component: Text
    kind: Text
    role: Role
    held_epoch: Count
    endpoint: Text
    status: NodeStatusName
    load_ppm: Ppm
    current_tasks: Count
    max_concurrent: Count
    work_done: Count
    queue_size: Count
    specialties: Items[Text]
    interval_ms: Count
    waits_for: Text = ""
    read_stamp: Count | None = None


class MinerBeat(Event):
    """A miner lives."""

    running: Items[Text]
    work_done: Count
    interval_ms: Count


class ProbeAnswered(Event):
    """A coordinator asked a node that had missed a beat, or whose connection had ended."""

    endpoint: Text
    answer: ProbeAnswer
    elapsed_ms: Count
    connection_ended: bool = False
