"""Decisions and leases on the control log.

The Avro schema of the same name documents each field and its unit. Pure.
"""

from __future__ import annotations

from everlode.events.base import Event, Evidence, Position
from everlode.events.types import (
    AssignReason,
    Count,
    Id,
    Items,
    NodeStatusName,
    OperatorVerb,
    Sha256,
    Text,
    WishOutcome,
)


class ScopeAssigned(Event):
    """A scope has a new primary; the first decision with its epoch wins."""

    scope_name: Text
    new_epoch: Count
    primary_node: Text
    region: Text
    reason: AssignReason
    failed_node: Text | None = None
    verdict_id: Id | None = None
    based_on: Count
    based_on_epoch: Count
    coordinator_epoch: Count | None = None
    lost_at: Count | None = None
    operation_id: Id | None = None


class LeaseRenewed(Event):
    """A primary or coordinator renews its lease; it counts once read back."""

    scope_name: Text
    node_id: Id
    held_epoch: Count
    nonce: Text
    incarnation: Text = ""


class NodeJoined(Event):
    """A process offers itself, under a node's name, for a component of a region."""

    node_id: Id
    region: Text
    component: Text
    kind: Text
    endpoint: Text
    priority: Count
    incarnation: Text = ""
    replaces: Text = ""
    host: Text = ""
    process_id: Text = ""
    specialties: Items[Text] = ()


class NodeStatusChanged(Event):
    """A node moved in the table of NodeStatus."""

    node_id: Id
    region: Text
    from_status: NodeStatusName
    to_status: NodeStatusName
    reason: Text
    changed_at: Count | None = None


class IncarnationOpened(Event):
    """A region's log begins (again)."""

    region: Text
    new_origin: Text
    accepted: Items[Position]


class GenerationSwitched(Event):
    """A region's projection moved to another generation."""

    region: Text
    generation: Count
    operation_id: Id


class BackupLeased(Event):
    """One backup of a region runs."""

    region: Text
    operation_id: Id
    holder: Text


class BackupReleased(Event):
    """The backup of a region ended."""

    region: Text
    operation_id: Id


class BackupMade(Event):
    """A backup of a region is in its store, whole: the newest one from now on."""

    region: Text
    backup_id: Id
    manifest_sha256: Sha256
    created_at_ms: Count


class OperatorAsked(Event):
    """An operator's wish about a scope; the first one that no other is ahead of counts."""

    operation_id: Id
    verb: OperatorVerb
    scope_name: Text
    node_id: Text
    operator: Id
    reason: Text
    until_ms: Count | None = None
    expires_ms: Count
    based_on: Count
    based_on_epoch: Count
    changed_at: Count | None = None


class FreezeAsked(Event):
    """A primary is to take no more commands, so that another node can lead."""

    operation_id: Id
    scope_name: Text
    held_epoch: Count
    primary_node: Id
    target_node: Id
    limit_ms: Count


class ScopeDrained(Event):
    """A frozen primary has committed all that it had taken, and takes no more."""

    operation_id: Id
    scope_name: Text
    node_id: Id
    held_epoch: Count
    positions: Items[Position]


class OperatorAnswered(Event):
    """What an operator asked for has ended."""

    operation_id: Id
    scope_name: Text
    outcome: WishOutcome
    reason: Text


class InputBlamed(Event):
    """A process ended while it had an input in hand, or does not come back from it."""

    node_id: Id
    incarnation: Text
    input: Text
    lives: bool = False


class RegionSuspected(Event):
    """A region's coordinator takes another region as failed, or does so no more."""

    region: Text
    observer: Text
    silence_ms: Count
    over: bool
    based_on: Count
    evidence: Items[Evidence]


class RegionFenced(Event):
    """A lost region leads nothing any more."""

    region: Text
    fenced_origin: Text
    observers: Items[Text]
    sites: Count
    based_on: Count


class PrefixReported(Event):
    """How much of a fenced region's facts a region's copy holds."""

    region: Text
    observer: Text
    fenced_at: Count
    positions: Items[Position]


class RegionReturned(Event):
    """A fenced region is back with its disks, and a member again."""

    region: Text
    fenced_at: Count
    positions: Items[Position]
