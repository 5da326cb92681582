"""What detectors and folds found out, with evidence.

The Avro schema of the same name documents each field and its unit. Pure.
"""

from __future__ import annotations

from everlode.events.base import Event, Evidence
from everlode.events.types import (
    Count,
    Finite,
    Id,
    Items,
    Long,
    Text,
)


class DetectorStarted(Event):
    """A detector took a heartbeat partition over, from a recorded start."""

    partition: Count
    from_offset: Count


class NodeSuspected(Event):
    """A node missed a beat."""

    component: Text
    rule: Text
    silence_ms: Count
    phi: Finite
    endpoint: Text
    actionable: bool
    evidence: Items[Evidence]


class NodeLost(Event):
    """A node is taken as failed."""

    component: Text
    rule: Text
    silence_ms: Count
    phi: Finite
    actionable: bool
    evidence: Items[Evidence]


class NodeDegraded(Event):
    """A node beats but does no work."""

    component: Text
    rule: Text
    actionable: bool
    evidence: Items[Evidence]


class NodeRecovered(Event):
    """A suspected node beats again."""

    component: Text
    silence_ms: Count
    evidence: Items[Evidence]


class NodeFlapping(Event):
    """A node went silent and came back too often."""

    component: Text
    changes: Count
    window_ms: Count
    evidence: Items[Evidence]


class DetectorBlind(Event):
    """Most of a region fell silent at once; node verdicts are held."""

    silent: Count
    known: Count
    evidence: Items[Evidence]


class GapFound(Event):
    """Sequence numbers or versions are missing."""

    topic: Text
    partition: Count
    key: Text
    expected: Count
    found: Count


class ConflictFound(Event):
    """One version came with two ids."""

    topic: Text
    partition: Count
    key: Text
    version: Count
    kept_event_id: Id
    refused_event_id: Id


class EventFenced(Event):
    """A fact of a lower epoch came after its fence."""

    topic: Text
    partition: Count
    refused_seq: Count
    refused_event_id: Id
    refused_epoch: Count
    current_epoch: Count


class ClockSkew(Event):
    """A node's wall clock is not as the network's, or is right again."""

    component: Text
    region: Text
    ahead_ms: Long
    leads: bool


class ForeignWrite(Event):
    """A fact topic holds a record that its one writer did not write."""

    topic: Text
    partition: Count
    foreign_offset: Count
    foreign_key: Text
    foreign_event_id: Text
    scope_name: Text
    held_epoch: Count


class ReactionRefused(Event):
    """A command of a primary to itself was refused, and no rule expects that."""

    component: Text
    rule: Text
    command_type: Text
    refused_command_id: Text
    cause_event_id: Text
    code: Text
    reason: Text


class WorkWaits(Event):
    """Work of one kind has waited for longer than it should, or does so no more."""

    component: Text
    work: Text
    waits_for: Text
    able: Long
    waiting: Count
    oldest_id: Text
    oldest_ms: Count
    over: bool


class LinkStale(Event):
    """Nothing of another region has come here for a while, or it comes again."""

    silence_ms: Count
    heard: Count
    sites: Count
    over: bool
    evidence: Items[Evidence]


class RegionLost(Event):
    """A majority of sites suspects a region at once, or does so no more."""

    observers: Items[Text]
    sites: Count
    over: bool
    actionable: bool
    evidence: Items[Evidence]
