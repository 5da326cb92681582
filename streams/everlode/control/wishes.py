"""What operators asked for, as the control log has it: part of its fold (see `fold`, rule 8).

    offset  record                                  the wishes about task-manager/eu after it
    ------  --------------------------------------  -----------------------------------------
        20  OperatorAsked    switchover, by ann     ann's is open
        21  OperatorAsked    drain a, by bob        void: ann's is open, and bob is shown that
        22  FreezeAsked      a, epoch 1             a takes no more commands
        23  ScopeDrained     a, epoch 1             its last positions are known
        24  ScopeAssigned    b, epoch 2             (the decision; a freeze of epoch 1 is over)
        25  OperatorAnswered done                   none is open

A pause, its end and an acknowledgement are carried out by their record alone; the others are open
until they are answered, one a scope. A wish whose id is known changes nothing.
Invariants: all of it is immutable, and the same for whoever reads the same records. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from everlode.events import control as e

KEPT = 200
"""Wishes that have ended and are remembered, so that a repeat of one is known as such."""
FAILBACK = "failback"
AT_ONCE = frozenset({"pause", "resume", "ack"})
"""Verbs that are carried out by their record alone."""


class Wish(NamedTuple):
    """A wish, and how far it has come."""

    asked: e.OperatorAsked
    asked_at: int
    """Control offset at which it was asked."""
    freeze: e.FreezeAsked | None = None
    drained: e.ScopeDrained | None = None
    outcome: str = ""
    """Empty while it is open."""
    why: str = ""
    ended_at: int = -1

    @property
    def id(self) -> str:
        """Its operation."""
        return self.asked.operation_id

    @property
    def text(self) -> str:
        """For people: what, of whom, by whom."""
        of = f" of {self.asked.node_id}" if self.asked.node_id else ""
        return f"{self.asked.verb}{of} by {self.asked.operator} ({self.id})"


@dataclass(frozen=True, slots=True)
class Wishes:
    """All that is open, in force, or has lately ended; oldest first."""

    open: tuple[Wish, ...] = ()
    ended: tuple[Wish, ...] = ()
    pauses: tuple[e.OperatorAsked, ...] = ()
    """The last one of each scope that was not resumed; also those that have ended by themselves."""
    acks: tuple[e.OperatorAsked, ...] = ()
    """The last one of each node."""

    def of(self, scope: str) -> Wish | None:
        """The open wish about a scope."""
        return next((wish for wish in self.open if wish.asked.scope_name == scope), None)

    def get(self, operation_id: str) -> Wish | None:
        """A wish, open or lately ended."""
        known = (*self.open, *self.ended)
        return next((wish for wish in known if wish.id == operation_id), None)

    def frozen(self, scope: str, epoch: int) -> Wish | None:
        """The wish for which the scope's primary of this epoch takes no more commands."""
        wish = self.of(scope)
        return wish if wish and wish.freeze and wish.freeze.held_epoch == epoch else None

    def pause(self, scope: str, now_ms: int) -> e.OperatorAsked | None:
        """The pause of a scope's automatic failover that is in force at a wall time."""
        found = next((p for p in self.pauses if p.scope_name == scope), None)
        if found is None or (found.until_ms is not None and found.until_ms <= now_ms):
            return None
        return found

    def ack(self, node_id: str, changed_at: int) -> e.OperatorAsked | None:
        """The acknowledgement of the status that a node came to at a control offset."""
        found = next((a for a in self.acks if a.node_id == node_id), None)
        return found if found is not None and found.changed_at == changed_at else None

    def holds(self, scope: str, now_ms: int) -> str:
        """Why no loss is handled in a scope at a wall time; empty: losses are handled."""
        pause, wish = self.pause(scope, now_ms), self.of(scope)
        if pause is not None:
            return f"{scope}: automatic failover is paused by {pause.operator}"
        return f"{scope}: {wish.text} runs" if wish and wish.asked.verb == "failover" else ""


def asked(wishes: Wishes, data: e.OperatorAsked, offset: int) -> Wishes | str:
    """The wishes after a new one; a text says why it has no effect."""
    if wishes.get(data.operation_id) is not None:
        return f"{data.operation_id} was asked before"
    if data.verb in AT_ONCE:
        return _at_once(wishes, Wish(data, offset, outcome="done", ended_at=offset))
    other = wishes.of(data.scope_name)
    if other is not None:
        return f"{other.text} runs"
    return replace(wishes, open=(*wishes.open, Wish(data, offset)))


def _at_once(wishes: Wishes, wish: Wish) -> Wishes:
    data, ended = wish.asked, (*wishes.ended, wish)[-KEPT:]
    if data.verb == "ack" and not data.node_id:
        return replace(wishes, ended=ended)  # of a scope: its cool-down ends, see `fold`
    if data.verb == "ack":
        others = tuple(a for a in wishes.acks if a.node_id != data.node_id)
        return replace(wishes, ended=ended, acks=(*others, data))
    others = tuple(p for p in wishes.pauses if p.scope_name != data.scope_name)
    return replace(wishes, ended=ended, pauses=(*others, data) if data.verb == "pause" else others)


def frozen(wishes: Wishes, data: e.FreezeAsked) -> Wishes | str:
    """The wishes after a primary was asked to take no more commands: once a wish."""
    wish = wishes.of(data.scope_name)
    if wish is None or wish.id != data.operation_id:
        return f"{data.operation_id} is not open"
    if wish.freeze is not None:
        return f"{data.scope_name} was frozen for it before"
    return _put(wishes, wish._replace(freeze=data))


def drained(wishes: Wishes, data: e.ScopeDrained) -> Wishes | str:
    """The wishes after the frozen primary has answered: once a freeze."""
    wish = wishes.frozen(data.scope_name, data.held_epoch)
    if wish is None or wish.freeze is None or wish.id != data.operation_id or wish.drained:
        return f"{data.scope_name} is not frozen for {data.operation_id}"
    if wish.freeze.primary_node != data.node_id:
        return f"{wish.freeze.primary_node} was asked, not {data.node_id}"
    return _put(wishes, wish._replace(drained=data))


def answered(wishes: Wishes, data: e.OperatorAnswered, offset: int) -> Wishes | str:
    """The wishes after one has ended: a freeze of it is over."""
    wish = wishes.of(data.scope_name)
    if wish is None or wish.id != data.operation_id:
        return f"{data.operation_id} is not open"
    over = wish._replace(outcome=data.outcome, why=data.reason, ended_at=offset)
    return replace(wishes, open=_without(wishes.open, wish), ended=(*wishes.ended, over)[-KEPT:])


def why_void(wishes: Wishes, decision: e.ScopeAssigned) -> str | None:
    """Why a decision for a wish does not count; None when it does, or is for none."""
    if decision.operation_id is None:
        return None
    wish = wishes.of(decision.scope_name)
    if wish is None or wish.id != decision.operation_id:
        return f"operation {decision.operation_id} is not open"
    drained_in = wish.drained.held_epoch if wish.drained else None
    if decision.reason == "switchover" and drained_in != decision.based_on_epoch:
        return f"its primary has not drained in epoch {decision.based_on_epoch}"
    return None


def _without(open_: Iterable[Wish], wish: Wish) -> tuple[Wish, ...]:
    return tuple(other for other in open_ if other.id != wish.id)


def _put(wishes: Wishes, wish: Wish) -> Wishes:
    return replace(wishes, open=(*_without(wishes.open, wish), wish))
