"""The fold of the control log: whoever reads the same records agrees who leads.

Theory of operation. The control log is one topic with one partition on the control cluster.
Everybody may append to it, and nobody can know what lands before a record of his own. So a record
is a proposal; what counts is decided by its place in the log, by everyone for himself, alike:

1. A record at or before `position` was folded and changes nothing, so reading again is harmless.
2. A decision (ScopeAssigned) counts when it is based on its scope's current epoch and opens the
   next. Of all that are based on one epoch the first in log order wins; the others are void for
   good, because the epoch has moved on.
3. A decision is void, too, when more than MAX_TICKS renewals of the deciding region's coordinator
   lie after the offset that it was based on: an append that timed out may still land, long after
   its coordinator has thought better of it. Time is not looked at; renewals are the ticks.
   So is one whose grounds have passed: another coordinator leads than the one that made it, the
   node that it replaces is not lost any more as it was, or the coordinator that it takes the place
   of has renewed since. Records of builds that did not write their grounds are not asked for them.
   Of old renewals compaction leaves only the last (see `control.keys`), so which decisions were
   late is kept for good in `late`, and whoever folds what is left begins with that.
4. A renewal (LeaseRenewed) counts when its node leads the scope in the epoch that it names, and
   when the process that sent it has the node's name: a lease belongs to a process.
5. A process takes a node's name (NodeJoined) when it names the one that has it, which it has found
   to be gone; of two that do so at once the first in log order has it. It joins as healthy, or as
   rejoining when the node was lost or fenced. A node moves along the table of NodeStatus, from the
   status it is in since the offset that the record names, and not on the word of a deposed
   coordinator.
6. An incarnation is the origin of a region's log from now on; a generation, that of its
   projection, never goes back.
7. A region has one backup at a time: the first to ask has it until that one is released. Of those
   that were made the one with the greatest id is the newest, whatever its store says later.
8. See `wishes` for what operators ask, `cooldown` for scopes whose unsteady primary was replaced,
   `blame` for an input that two processes had in hand when they ended, `sites` for a coordinator's
   word on another region, `fences` for a region that is fenced and leads nothing, and who may take
   its scopes.

A void record changes the position alone. Void decisions are kept, for operators to see.

    offset  record                                     task-manager/eu after it
    ------  -----------------------------------------  -------------------------------------
         7  ScopeAssigned  a, epoch 1, based on 0      a leads in epoch 1
         8  LeaseRenewed   a, epoch 1                  renewed at 8
         9  ScopeAssigned  b, epoch 2, based on 1      b leads in epoch 2: the first of two
        10  ScopeAssigned  c, epoch 2, based on 1      (2) void: the current epoch is 2
        11  LeaseRenewed   a, epoch 1                  (4) void: b leads
        12  LeaseRenewed   b, epoch 2                  renewed at 12

Invariants: a scope's epoch only rises, by one; one epoch has one primary node, and a node one
process after another, each known by its incarnation. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from everlode.control import backups as k
from everlode.control import blame as b
from everlode.control import cooldown as cool
from everlode.control import fences as f
from everlode.control import wishes as w
from everlode.control.known import NodeState as NodeState
from everlode.control.known import ScopeState as ScopeState
from everlode.control.known import VoidDecision as VoidDecision
from everlode.control.suspicions import Suspicions, suspected
from everlode.events import control as e
from everlode.events.base import Event, Fact
from everlode.events.nodes import TRANSITIONS, NodeStatus

MAX_TICKS = 10
MAX_VOID = 100
"""Void decisions kept for inspection."""


class Void(NamedTuple):
    """What a rule gives for a record that has no effect."""

    reason: str
    late: bool = False


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
    newest: Mapping[str, e.BackupMade] = field(default_factory=lambda: MappingProxyType({}))
    """Region → its newest backup."""
    suspicions: Suspicions = field(default_factory=lambda: MappingProxyType({}))
    ticks: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Region → offsets of the last renewals of its coordinator, oldest first."""
    void: tuple[VoidDecision, ...] = ()
    late: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    """Offset → why, of what is void by rule 3 alone; also of records yet to be read."""
    wishes: w.Wishes = field(default_factory=w.Wishes)
    cooldowns: cool.Cooldowns = field(default_factory=lambda: MappingProxyType({}))
    blamed: b.Blamed = field(default_factory=lambda: MappingProxyType({}))
    fences: f.Fences = field(default_factory=lambda: MappingProxyType({}))

    def epoch(self, scope: str) -> int:
        """Current epoch of a scope; 0 before its first primary."""
        found = self.scopes.get(scope)
        return found.epoch if found else 0

    def incarnation(self, node_id: str) -> str:
        """The process that has a node's name; empty for none, and for one of an older build."""
        found = self.nodes.get(node_id)
        return found.incarnation if found else ""

    def nodes_of(self, region: str, component: str) -> list[NodeState]:
        """Nodes of a component in a region, by priority, then id."""
        mine = (n for n in self.nodes.values() if (n.region, n.component) == (region, component))
        return sorted(mine, key=lambda n: (-n.priority, n.node_id))


Rule = Callable[[ControlState, Any, Fact], ControlState | Void]
"""From the state, whose `position` is the record's offset, the record's data and the record."""


def apply(state: ControlState, offset: int, fact: Fact) -> ControlState:
    """The state after the record at `offset`; records at or before `position` change nothing.

    Events of other topics in the log change only the position. Total.
    """
    if offset <= state.position:  # 1. read before
        return state
    state = replace(state, position=offset)
    data = fact.data
    rule = RULES.get(type(data))
    if rule is None:
        return state
    after = rule(state, data, fact)
    if isinstance(after, ControlState):
        return after
    if isinstance(data, e.ScopeAssigned):
        void = VoidDecision(offset, data, after.reason)
        state = replace(state, void=(*state.void, void)[-MAX_VOID:])
    return _set(state, "late", offset, after.reason) if after.late else state


def why_void(state: ControlState, decision: e.ScopeAssigned, decider: str) -> str | None:
    """Why a decision would be void if it were the next record; None when it would count.

    `decider` is the region of the coordinator that made it.
    """
    return _why_outrun(state, decision) or _why_late(state, decision, decider)


def _why_outrun(state: ControlState, decision: e.ScopeAssigned) -> str | None:
    current = state.epoch(decision.scope_name)
    if decision.based_on_epoch != current:  # 2. another was first
        return f"based on epoch {decision.based_on_epoch}, the current one is {current}"
    if decision.new_epoch != current + 1:
        return f"opens epoch {decision.new_epoch}, the next one is {current + 1}"
    return w.why_void(state.wishes, decision)  # 8.


def _why_late(state: ControlState, decision: e.ScopeAssigned, decider: str) -> str | None:
    late = _passed(state, decider, decision.based_on)
    return late or _overtaken(state, decision, f"coordinator/{decider}")


def _passed(state: ControlState, region: str, based_on: int) -> str | None:
    passed = sum(1 for tick in state.ticks.get(region, ()) if tick > based_on)
    if passed > MAX_TICKS:  # 3. it landed late
        return f"{passed} ticks have passed since offset {based_on}"
    return None


def _overtaken(state: ControlState, decision: e.ScopeAssigned, decider: str) -> str | None:
    """Which of the decision's grounds has passed, by 3.; None: all hold that it names."""
    now = state.epoch(decider)
    if decision.coordinator_epoch is None:
        return None
    if decision.coordinator_epoch != now:
        was = decision.coordinator_epoch
        return f"decided in epoch {was} of {decider}, the current one is {now}"
    led = state.scopes.get(decision.scope_name)
    if led is not None and led.scope == decider and led.renewed_at > decision.based_on:
        return f"{led.primary} has renewed at {led.renewed_at}, after offset {decision.based_on}"
    failed = state.nodes.get(decision.failed_node or "")
    if failed is not None and decision.lost_at not in (None, failed.changed_at):
        return f"{failed.node_id} is {failed.status} since offset {failed.changed_at}"
    return None


def _set(state: ControlState, name: str, key: object, value: object) -> ControlState:
    changes: dict[str, Any] = {name: MappingProxyType({**getattr(state, name), key: value})}
    return replace(state, **changes)


def _assign(state: ControlState, data: e.ScopeAssigned, fact: Fact) -> ControlState | Void:
    """The envelope's scope is the one under which it was decided, coordinator/<region>."""
    reason = _why_outrun(state, data)  # 2.
    if reason is not None:
        return Void(reason)
    decider = fact.envelope.scope.rpartition("/")[2]
    home = f.gone_home(state, data, decider)  # 8.
    reason = None if home else f.why_not_taken(state, data.scope_name, decider)
    if reason is not None:
        return Void(reason)
    reason = state.late.get(state.position) or _why_late(state, data, decider)  # 3.
    if reason is not None:
        return Void(reason, late=True)
    leads = ScopeState(
        data.scope_name, data.new_epoch, data.primary_node, data.region, state.position, data, -1
    )
    cooldowns = cool.decided(state.cooldowns, data, fact.envelope)  # 9.
    state = replace(state, cooldowns=cooldowns, fences=home or state.fences)
    return _set(state, "scopes", data.scope_name, leads)


def _renew(state: ControlState, data: e.LeaseRenewed, fact: Fact) -> ControlState | Void:
    scope = state.scopes.get(data.scope_name)
    if scope is None or (scope.primary, scope.epoch) != (data.node_id, data.held_epoch):
        return Void(f"{data.node_id} does not lead in epoch {data.held_epoch}")  # 4.
    if data.incarnation != state.incarnation(data.node_id):
        return Void(f"another process is {data.node_id}")
    offset = state.position
    if scope.renewed_at < 0:  # 9. it leads
        state = replace(state, cooldowns=cool.begun(state.cooldowns, scope.scope, fact.envelope))
    state = _set(state, "scopes", data.scope_name, scope._replace(renewed_at=offset))
    name, _, region = data.scope_name.partition("/")
    if name != "coordinator":
        return state
    ticks = (*state.ticks.get(region, ()), offset)[-(MAX_TICKS + 2) :]  # 3. counts these
    return _set(state, "ticks", region, ticks)


def _join(state: ControlState, data: e.NodeJoined, _: Fact) -> ControlState | Void:
    before = state.nodes.get(data.node_id)
    if state.incarnation(data.node_id) not in (data.replaces, data.incarnation):  # 5.
        return Void(f"another process is {data.node_id}")
    gone = before is not None and before.status in (NodeStatus.LOST, NodeStatus.FENCED)
    drains = before is not None and before.drains
    known = NodeStatus.REJOINING if gone else NodeStatus.HEALTHY
    status = NodeStatus.DRAINING if drains else known  # 8., 5.
    node = NodeState(
        data.node_id, data.region, data.component, data.kind, data.endpoint, data.priority,
        status.value, state.position, state.position,
        data.incarnation, data.host, data.process_id, drains, data.specialties,
    )  # fmt: skip
    return _set(state, "nodes", data.node_id, node)


def _move(state: ControlState, data: e.NodeStatusChanged, fact: Fact) -> ControlState | Void:
    node = state.nodes.get(data.node_id)
    if node is None or node.status != data.from_status:  # 5. from the status it is in
        return Void(f"{data.node_id} is not {data.from_status}")
    if data.changed_at not in (None, node.changed_at):
        return Void(f"{data.node_id} is {node.status} since offset {node.changed_at}")
    deposed = _deposed(state, fact)
    if deposed is not None:
        return deposed
    new = NodeStatus(data.to_status)
    if new not in TRANSITIONS[NodeStatus(node.status)]:
        return Void(f"no node goes from {node.status} to {new}")
    back = new in (NodeStatus.HEALTHY, NodeStatus.REJOINING)
    drains = new == NodeStatus.DRAINING or (node.drains and not back)  # 8.
    moved = node._replace(status=new.value, changed_at=state.position, drains=drains)
    return _set(state, "nodes", data.node_id, moved)


def _deposed(state: ControlState, fact: Fact) -> Void | None:
    by = fact.envelope
    over = by.epoch and by.epoch < state.epoch(by.scope)
    return Void(f"epoch {by.epoch} of {by.scope} is over") if over else None


def _open(state: ControlState, data: e.IncarnationOpened, _: Fact) -> ControlState:
    return _set(state, "origins", data.region, data.new_origin)


def _switch(state: ControlState, data: e.GenerationSwitched, _: Fact) -> ControlState | Void:
    known = state.generations.get(data.region, -1)
    if data.generation <= known:  # 6. never back
        return Void(f"generation {known} of {data.region} is as new")
    return _set(state, "generations", data.region, data.generation)


def _lease_backup(state: ControlState, data: e.BackupLeased, _: Fact) -> ControlState | Void:
    return _taken(state, "backups", k.leased(state.backups, data))


def _release_backup(state: ControlState, data: e.BackupReleased, _: Fact) -> ControlState | Void:
    return _taken(state, "backups", k.released(state.backups, data))


def _made_backup(state: ControlState, data: e.BackupMade, _: Fact) -> ControlState | Void:
    return _taken(state, "newest", k.made(state.newest, data))


def _suspect(state: ControlState, data: e.RegionSuspected, fact: Fact) -> ControlState | Void:
    epoch = state.epoch(f"coordinator/{data.observer}")
    word = suspected(state.suspicions, data, fact.envelope, epoch, state.position)  # 8.
    if isinstance(word, str):
        return Void(word)
    return _set(state, "suspicions", f"{data.observer}/{data.region}", word)


def _fence(state: ControlState, data: e.RegionFenced, fact: Fact) -> ControlState | Void:
    decider = fact.envelope.scope.rpartition("/")[2]
    late = state.late.get(state.position) or _passed(state, decider, data.based_on)  # 3.
    late = late or f.taken_back(state.suspicions, data)
    if late is not None:
        return Void(late, late=True)
    after = f.fenced(state, data, decider)  # 8.
    return _deposed(state, fact) or (
        Void(after) if isinstance(after, str) else replace(state, **after)
    )


def _report(state: ControlState, data: e.PrefixReported, fact: Fact) -> ControlState | Void:
    return _deposed(state, fact) or _taken(
        state, "fences", f.reported(state.fences, data, fact.envelope)
    )


def _return(state: ControlState, data: e.RegionReturned, fact: Fact) -> ControlState | Void:
    return _deposed(state, fact) or _taken(state, "fences", f.returned(state, data, fact.envelope))


def _ask(state: ControlState, data: e.OperatorAsked, _: Fact) -> ControlState | Void:
    region = data.scope_name.rpartition("/")[2]
    late = state.late.get(state.position) or _passed(state, region, data.based_on)  # 3.
    if late is not None:
        return Void(late, late=True)
    node = state.nodes.get(data.node_id)
    if node is not None and data.changed_at not in (None, node.changed_at):
        return Void(f"{node.node_id} is {node.status} since offset {node.changed_at}")
    after = _wished(state, w.asked(state.wishes, data, state.position))  # 8.
    if isinstance(after, Void) or data.verb != "ack" or data.node_id:
        return after
    return replace(after, cooldowns=cool.ended(after.cooldowns, data.scope_name))  # 8.


def _freeze(state: ControlState, data: e.FreezeAsked, fact: Fact) -> ControlState | Void:
    led = state.scopes.get(data.scope_name)
    if led is None or (led.primary, led.epoch) != (data.primary_node, data.held_epoch):
        return Void(f"{data.primary_node} does not lead in epoch {data.held_epoch}")
    return _deposed(state, fact) or _wished(state, w.frozen(state.wishes, data))


def _drain(state: ControlState, data: e.ScopeDrained, _: Fact) -> ControlState | Void:
    if data.held_epoch != state.epoch(data.scope_name):
        return Void(f"epoch {data.held_epoch} of {data.scope_name} is over")
    return _wished(state, w.drained(state.wishes, data))


def _answer(state: ControlState, data: e.OperatorAnswered, fact: Fact) -> ControlState | Void:
    return _deposed(state, fact) or _wished(state, w.answered(state.wishes, data, state.position))


def _blame(state: ControlState, data: e.InputBlamed, _: Fact) -> ControlState | Void:
    return _taken(state, "blamed", b.blamed(state.blamed, data))  # 8.


def _wished(state: ControlState, after: w.Wishes | str) -> ControlState | Void:
    return _taken(state, "wishes", after)


def _taken(state: ControlState, name: str, after: Any) -> ControlState | Void:
    return Void(after) if isinstance(after, str) else replace(state, **{name: after})


RULES: Mapping[type[Event], Rule] = {
    e.ScopeAssigned: _assign,
    e.LeaseRenewed: _renew,
    e.NodeJoined: _join,
    e.NodeStatusChanged: _move,
    e.IncarnationOpened: _open,
    e.GenerationSwitched: _switch,
    e.BackupLeased: _lease_backup,
    e.BackupReleased: _release_backup,
    e.BackupMade: _made_backup,
    e.RegionSuspected: _suspect,
    e.RegionFenced: _fence,
    e.PrefixReported: _report,
    e.RegionReturned: _return,
    e.OperatorAsked: _ask,
    e.FreezeAsked: _freeze,
    e.ScopeDrained: _drain,
    e.OperatorAnswered: _answer,
    e.InputBlamed: _blame,
}
"""Event type → what such a record does; all others in the log move the position alone."""
