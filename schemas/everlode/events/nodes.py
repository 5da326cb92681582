"""NodeStatus: the states of a service node and the one table of its transitions.

Pure.
"""

from __future__ import annotations

from enum import StrEnum

from everlode.errors import Refusal


class NodeStatus(StrEnum):
    """State of a node as the control log and the projection see it."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    LOST = "lost"
    FENCED = "fenced"
    DRAINING = "draining"
    REJOINING = "rejoining"


_S = NodeStatus
TRANSITIONS: dict[NodeStatus, frozenset[NodeStatus]] = {
    _S.HEALTHY: frozenset({_S.DEGRADED, _S.LOST, _S.DRAINING, _S.FENCED}),
    _S.DEGRADED: frozenset({_S.HEALTHY, _S.LOST, _S.DRAINING, _S.FENCED}),
    _S.LOST: frozenset({_S.FENCED, _S.REJOINING, _S.DRAINING}),
    _S.FENCED: frozenset({_S.REJOINING, _S.LOST, _S.DRAINING}),
    _S.DRAINING: frozenset({_S.HEALTHY, _S.LOST, _S.FENCED}),
    _S.REJOINING: frozenset({_S.HEALTHY, _S.LOST}),
}
"""From → allowed to. Staying is always allowed and is no transition."""


def move(old: NodeStatus, new: NodeStatus) -> NodeStatus:
    """Return `new` if the table allows it from `old`.

    Raises:
        Refusal: the table has no such transition.
    """
    if new is not old and new not in TRANSITIONS[old]:
        allowed = ", ".join(sorted(TRANSITIONS[old]))
        raise Refusal(f"a node cannot go from {old} to {new}", hint=f"from {old}: {allowed}")
    return new
