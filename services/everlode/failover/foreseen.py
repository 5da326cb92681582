"""A wish's dry run: all its steps to the end, if each succeeds at once. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from everlode.control.wishes import FAILBACK
from everlode.events.control import FreezeAsked, ScopeDrained
from everlode.events.nodes import NodeStatus
from everlode.failover.eligible import Copy, WishView
from everlode.failover.wishes import Answer, Await, Flip, Freeze, Move, WishStep, plan


def foresee(view: WishView) -> Iterator[WishStep]:
    """The steps, from what the view shows; nothing else happens meanwhile. The last is Answer."""
    while True:
        step = plan(view)
        yield step
        if isinstance(step, Answer):
            return
        view = _after(view, step)


def _after(view: WishView, step: WishStep) -> WishView:
    wish, led, control = view.wish, view.led, view.control
    match step:
        case Move():
            node = control.nodes[step.node_id]
            moved = node._replace(status=step.status.value, changed_at=wish.asked_at + 1)
            nodes = MappingProxyType({**control.nodes, step.node_id: moved})
            return view._replace(control=replace(control, nodes=nodes))
        case Freeze():
            freeze = FreezeAsked(
                operation_id=wish.id, scope_name=step.scope, held_epoch=step.epoch,
                primary_node=step.primary, target_node=step.target, limit_ms=0,
            )  # fmt: skip
            return view._replace(wish=wish._replace(freeze=freeze))
        case Flip() if led is not None:
            decision = led.decision.model_copy(update={"operation_id": wish.id})
            after = led._replace(epoch=step.new_epoch, primary=step.primary, decision=decision)
            scopes = MappingProxyType({**control.scopes, step.scope: after})
            return view._replace(control=replace(control, scopes=scopes))
        case Await():
            return _awaited(view)
        case _:
            own: Any = step
            return view._replace(work=view.planner.after(view.work, own))


def _awaited(view: WishView) -> WishView:
    wish, led, node = view.wish, view.led, view.node
    if view.copy is None and wish.asked.verb == FAILBACK:
        return view._replace(copy=Copy({}, view.now_ms))  # of what is drained, which is not known
    if led is not None and wish.freeze is not None and wish.drained is None:
        drained = ScopeDrained(
            operation_id=wish.id, scope_name=led.scope, node_id=led.primary, held_epoch=led.epoch,
            positions=(),
        )  # fmt: skip
        return view._replace(wish=wish._replace(drained=drained))
    if led is not None and view.opened < led.epoch:
        return view._replace(opened=led.epoch)
    if node is not None and node.status == NodeStatus.REJOINING:
        healthy = node._replace(status=NodeStatus.HEALTHY.value)
        nodes = MappingProxyType({**view.control.nodes, node.node_id: healthy})
        return view._replace(control=replace(view.control, nodes=nodes))
    return view._replace(now_ms=wish.asked.expires_ms)  # nothing foreseen ends this but its time
