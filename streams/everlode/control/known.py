"""What the control log says of one scope, of one node, and of one void decision. Pure."""

from __future__ import annotations

from typing import NamedTuple

from everlode.events import control as e


class ScopeState(NamedTuple):
    """Who leads a scope."""

    scope: str
    epoch: int
    primary: str
    region: str
    decided_at: int
    """Control offset of the decision."""
    decision: e.ScopeAssigned
    renewed_at: int
    """Control offset of the primary's last renewal in this epoch; -1 before the first."""


class NodeState(NamedTuple):
    """A node as the control log knows it."""

    node_id: str
    region: str
    component: str
    kind: str
    endpoint: str
    priority: int
    status: str
    joined_at: int
    changed_at: int = -1
    """Control offset at which it came to this status."""
    incarnation: str = ""
    """The process that has its name."""
    host: str = ""
    process_id: str = ""
    drains: bool = False
    """It was drained and not taken back since, also while it is lost."""
    specialties: tuple[str, ...] = ()
    """Types of tasks that it gets before others; none: it takes every type alike."""


class VoidDecision(NamedTuple):
    """A decision that does not count, and why."""

    offset: int
    decision: e.ScopeAssigned
    reason: str
