"""Carries operators' wishes out: a step of each open one in each pass of the leading coordinator.

    wish ─► view (logs, heartbeats) ─► plan ─► record on the control log, or orders to a primary
      ▲                                               │
      └──────────────── the control log ──────────────┘

What a step leaves in the control log is where any coordinator goes on; each is appended at most
once in 10 s. See `wishes` for the steps and `eligible` for what is refused. Shell: one thread.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, NamedTuple
from uuid import uuid5

from everlode.adapters.clock import WallClock
from everlode.control.fold import ScopeState
from everlode.control.wishes import FAILBACK, Wish
from everlode.events.control import FreezeAsked, OperatorAnswered
from everlode.events.types import fitting
from everlode.failover.again import Again
from everlode.failover.copies import Look, nobody_looks
from everlode.failover.decisions import Basis, Decisions, Loss
from everlode.failover.eligible import Copy, WishView
from everlode.failover.heartbeats import Heartbeats
from everlode.failover.orders import Orders
from everlode.failover.planner import GONE, NAMESPACE, operation_id
from everlode.failover.policy import Policies, Policy
from everlode.failover.wishes import Answer, Await, Flip, Freeze, Move, WishStep, plan
from everlode.membership.agent import NodeAgent
from everlode.telemetry.entries import WishCarried
from everlode.telemetry.sink import Sink, silent


class Parts(NamedTuple):
    """What a coordinator has, and its wishes are carried out with."""

    agent: NodeAgent
    heartbeats: Heartbeats
    policies: Policies
    orders: Orders
    decisions: Decisions
    copy_of: Look = nobody_looks


class Carrier:
    """Of one coordinator. `ended`: ids of the losses whose handling is over."""

    def __init__(self, parts: Parts, ended: Container[str], report: Sink = silent) -> None:
        self._parts = parts
        self._agent, self._heartbeats, self._policies, self._orders, self._decisions, _ = parts
        self._region = self._agent.identity.region
        self._ended = ended
        self._report = report
        self._clock = WallClock()
        self._again = Again()
        self._shown = Again()

    def open(self) -> list[Wish]:
        """The wishes of this region that are open."""
        wishes = self._agent.control.wishes.open
        return [w for w in wishes if w.asked.scope_name.endswith(f"/{self._region}")]

    def turn(self, basis: Basis) -> None:
        """One step of each open wish. Raises: Unavailable."""
        for wish in self.open():
            policy = self._policies.get(wish.asked.scope_name.rpartition("/")[0])
            if policy is not None:
                self._carry(wish, policy, basis)

    def _carry(self, wish: Wish, policy: Policy[Any], basis: Basis) -> None:
        step = plan(self._view(wish, policy, basis))
        match step:
            case Move():
                node = basis.control.nodes[step.node_id]
                self._decisions.note(node, step.status, step.why, basis.epoch)
            case Freeze():
                self._freeze(wish, step, basis)
            case Flip():
                primary = basis.control.nodes.get(basis.control.scopes[step.scope].primary)
                lost = primary if step.reason == "forced" else None
                loss = Loss(lost, reason=step.reason, operation=wish.id)
                self._decisions.assign(basis, step.scope, step.primary, loss)
            case Answer():
                self._answer(wish, step, basis)
            case Await():
                pass
            case _:
                if self._orders.free() and self._decisions.leads(basis.epoch):
                    self._orders.send(policy.orders(step, _operation(wish), self._orders.now()))
        if self._shown.due((wish.id, *_text(step))):
            self._report(WishCarried(wish.id, wish.text, *_text(step)))

    def _view(self, wish: Wish, policy: Policy[Any], basis: Basis) -> WishView:
        control, asked = basis.control, wish.asked
        led: ScopeState | None = control.scopes.get(asked.scope_name)
        node = control.nodes.get(asked.node_id)
        return WishView(
            control=control,
            wish=wish,
            beats=self._heartbeats.fresh(),
            opened=policy.opened(led) if led else 0,
            now_ms=self._clock.wall_ms(),
            planner=policy,
            work=policy.work(asked.node_id) if asked.verb == "drain" else None,
            handled=node is None or node.status not in GONE or self._over(led, operation_id(node)),
            copy=self._copy(led, policy) if asked.verb == FAILBACK else None,
        )

    def _copy(self, led: ScopeState | None, policy: Policy[Any]) -> Copy | None:
        if led is None or led.region == self._region:
            return None
        return self._parts.copy_of(led.region, policy.service.facts)

    def _over(self, led: ScopeState | None, loss: str) -> bool:
        """The node's loss is handled, or waits for a pause to end: it may come back meanwhile."""
        paused = led and self._agent.control.wishes.pause(led.scope, self._clock.wall_ms())
        return paused is not None or loss in self._ended

    def _freeze(self, wish: Wish, step: Freeze, basis: Basis) -> None:
        data = FreezeAsked(
            operation_id=wish.id, scope_name=step.scope, held_epoch=step.epoch,
            primary_node=step.primary, target_node=step.target,
            limit_ms=max(0, wish.asked.expires_ms - self._clock.wall_ms()),
        )  # fmt: skip
        if self._again.due((wish.id, "freeze")):
            self._decisions.append(step.scope, data, basis.epoch)

    def _answer(self, wish: Wish, step: Answer, basis: Basis) -> None:
        data = OperatorAnswered(
            operation_id=wish.id, scope_name=wish.asked.scope_name, outcome=step.outcome,
            reason=fitting(step.why),
        )  # fmt: skip
        if self._again.due((wish.id, "answer")):
            self._decisions.append(wish.asked.scope_name, data, basis.epoch)


def _operation(wish: Wish) -> str:
    """What its commands' ids begin with: an operator's own id may be as long as an id can be."""
    return str(uuid5(NAMESPACE, wish.id))


def _text(step: WishStep) -> tuple[str, str]:
    """A step's name, and what of it."""
    fields = step._asdict().values()
    return type(step).__name__, ", ".join(str(v) for v in fields if isinstance(v, str | int))
