"""The fold of the control log: whoever reads the same records agrees who leads.

Invariants: a scope's epoch only rises, by one; the first decision in log order that names the
current epoch wins, every other with that epoch is void for good; a decision that more than
`MAX_TICKS` renewals of its coordinator have passed by is void (a timed-out append may still
land). Time is not looked at. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from everlode.events import control as e
from everlode.events.base import Fact
from everlode.events.nodes import TRANSITIONS, NodeStatus

MAX_TICKS = 10
MAX_VOID = 100
"""Void decisions kept for inspection."""


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


class Void(NamedTuple):
    """A decision that does not count, and why."""

    offset: int
    decision: e.ScopeAssigned
    reason: str


@dataclass(frozen=True, slots=True)
class ControlState:
    """What the log says up to and including `position` (offset of the last record; -1: none)."""

    position: int = -1
    scopes: Mapping[str, ScopeState] = field(default_factory=lambda: MappingProxyType({}))
    nodes: Mapping[str, NodeState] = field(default_factory=lambda: MappingProxyType({}))
    origins: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    generations: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    backups: Mapping[str, e.BackupLeased] = field(default_factory=lambda: MappingProxyType({}))
    """Region → the backup that runs there."""
    ticks: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Region → offsets of the last renewals of its coordinator, oldest first."""
    void: tuple[Void, ...] = ()

    def epoch(self, scope: str) -> int:
        """Current epoch of a scope; 0 before its first primary."""
        found = self.scopes.get(scope)
        return found.epoch if found else 0

    def nodes_of(self, region: str, component: str) -> list[NodeState]:
        """Nodes of a component in a region, by priority, then id."""
        mine = (n for n in self.nodes.values() if (n.region, n.component) == (region, component))
        return sorted(mine, key=lambda n: (-n.priority, n.node_id))


def _with(mapping: Mapping[str, object], key: str, value: object) -> MappingProxyType[str, object]:
    return MappingProxyType({**mapping, key: value})


def apply(  # noqa: C901 - one case a record
    state: ControlState, offset: int, fact: Fact
) -> ControlState:
    """The state after the record at `offset`; records at or before `position` change nothing.

    Events of other topics in the log change only the position. Total.
    """
    if offset <= state.position:
        return state
    state = replace(state, position=offset)
    data = fact.data
    match data:
        case e.ScopeAssigned():
            return _assign(state, offset, data, fact.envelope.scope)
        case e.LeaseRenewed():
            return _renew(state, offset, data)
        case e.NodeJoined():
            return _join(state, offset, data)
        case e.NodeStatusChanged():
            return _status(state, offset, fact)
        case e.IncarnationOpened():
            return _set(state, "origins", data.region, data.new_origin)
        case e.GenerationSwitched():
            known = state.generations.get(data.region, 0)
            return _set(state, "generations", data.region, max(known, data.generation))
        case e.BackupLeased():
            if data.region in state.backups:
                return state  # the first holder keeps it until it is released
            return _set(state, "backups", data.region, data)
        case e.BackupReleased():
            held = state.backups.get(data.region)
            if held is None or held.operation_id != data.operation_id:
                return state
            rest = {k: v for k, v in state.backups.items() if k != data.region}
            return replace(state, backups=MappingProxyType(rest))
        case _:
            return state


def _set(state: ControlState, name: str, key: str, value: object) -> ControlState:
    changes: dict[str, Any] = {name: _with(getattr(state, name), key, value)}
    return replace(state, **changes)


def why_void(state: ControlState, decision: e.ScopeAssigned, decider: str) -> str | None:
    """Why a decision would be void if it were the next record; None when it would count.

    `decider` is the region of the coordinator that made it.
    """
    current = state.epoch(decision.scope_name)
    if decision.based_on_epoch != current:
        return f"based on epoch {decision.based_on_epoch}, the current one is {current}"
    if decision.new_epoch != current + 1:
        return f"opens epoch {decision.new_epoch}, the next one is {current + 1}"
    passed = sum(1 for tick in state.ticks.get(decider, ()) if tick > decision.based_on)
    if passed > MAX_TICKS:
        return f"{passed} ticks have passed since offset {decision.based_on}"
    return None


def _assign(state: ControlState, offset: int, data: e.ScopeAssigned, by: str) -> ControlState:
    """`by` is the scope under which it was decided, coordinator/<region>."""
    reason = why_void(state, data, by.rpartition("/")[2])
    if reason is not None:
        void = (*state.void, Void(offset, data, reason))[-MAX_VOID:]
        return replace(state, void=void)
    entry = ScopeState(
        data.scope_name, data.new_epoch, data.primary_node, data.region, offset, data, -1
    )
    return _set(state, "scopes", data.scope_name, entry)


def _renew(state: ControlState, offset: int, data: e.LeaseRenewed) -> ControlState:
    scope = state.scopes.get(data.scope_name)
    if scope is None or (scope.primary, scope.epoch) != (data.node_id, data.held_epoch):
        return state
    state = _set(state, "scopes", data.scope_name, scope._replace(renewed_at=offset))
    name, _, region = data.scope_name.partition("/")
    if name != "coordinator":
        return state
    ticks = (*state.ticks.get(region, ()), offset)[-(MAX_TICKS + 2) :]
    return _set(state, "ticks", region, ticks)


def _join(state: ControlState, offset: int, data: e.NodeJoined) -> ControlState:
    """A node that was lost or fenced comes back as rejoining."""
    before = state.nodes.get(data.node_id)
    gone = before is not None and before.status in (NodeStatus.LOST, NodeStatus.FENCED)
    status = NodeStatus.REJOINING if gone else NodeStatus.HEALTHY
    node = NodeState(
        data.node_id, data.region, data.component, data.kind, data.endpoint, data.priority,
        status.value, offset, offset,
    )  # fmt: skip
    return _set(state, "nodes", data.node_id, node)


def _status(state: ControlState, offset: int, fact: Fact) -> ControlState:
    """A move changes nothing when the table does not allow it, when the node is not in the status
    that it starts from, or when its writer was no longer the region's coordinator.
    """
    data: e.NodeStatusChanged = fact.data  # type: ignore[assignment]
    node = state.nodes.get(data.node_id)
    if node is None or node.status != data.from_status:
        return state
    if fact.envelope.epoch and fact.envelope.epoch < state.epoch(fact.envelope.scope):
        return state
    new = NodeStatus(data.to_status)
    if new not in TRANSITIONS[NodeStatus(node.status)]:
        return state
    changed = node._replace(status=new.value, changed_at=offset)
    return _set(state, "nodes", data.node_id, changed)
