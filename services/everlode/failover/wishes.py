"""What an operator asked for: the next step, planned from the view alone.

    switchover   Freeze ─► Await (drained) ─► Flip ─► Await (opened) ─► Answer
    failover     Move (the primary: lost) ─► Flip ─► Await (opened) ─► Answer
    failback     Await (its copy is level) ─► Freeze ─► Await (drained, and that has come home)
                 ─► Flip (a node at home) ─► Await (opened) ─► Answer
    drain        Move (draining) ─► [as a switchover, if it leads] ─► own steps ─► Answer
    rejoin       Move (back) ─► Await (healthy) ─► Answer

Each step leaves its record in the control log, so any coordinator goes on where another was killed,
and a step that was taken is not taken again. Until the flip a wish that cannot go on, or whose time
is over, is answered so, which ends its freeze: all is as before. After the flip nothing goes back.

Invariants: a switchover flips only a primary that has drained; a failback only once the home's copy
has all that it had drained to. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

from everlode.control.fences import short, vector
from everlode.control.fold import NodeState
from everlode.errors import Refusal
from everlode.events.nodes import NodeStatus
from everlode.events.types import StepName, WishOutcome
from everlode.failover.eligible import BACK, WishView, refusal, successors
from everlode.failover.planner import GONE, LEVEL_MS, Finish, OwnStep, Stuck, View


class Move(NamedTuple):
    """Note a node's status."""

    node_id: str
    status: NodeStatus
    why: str


class Freeze(NamedTuple):
    """Ask the primary to take no more commands, and to commit what it has."""

    scope: str
    epoch: int
    primary: str
    target: str


class Await(NamedTuple):
    """Wait for what only others can do."""

    what: str


class Flip(NamedTuple):
    """Append ScopeAssigned: the scope's next epoch belongs to `primary`."""

    scope: str
    new_epoch: int
    primary: str
    reason: Literal["switchover", "forced"]


class Answer(NamedTuple):
    """It has ended."""

    outcome: WishOutcome
    why: str


WishStep = Move | Freeze | Await | Flip | Answer | OwnStep


def plan(view: WishView) -> WishStep:
    """The next step of an open wish; Answer when it has ended."""
    return _PLANS[view.wish.asked.verb](view)


def _switchover(view: WishView) -> WishStep:
    return _end(view) or _freeze(view) or _opened(view)


def _failback(view: WishView) -> WishStep:
    return _end(view) or _copied(view) or _freeze(view) or _opened(view)


def _copied(view: WishView) -> WishStep | None:
    """What a failback waits for: the copy is nearly level before anything is frozen, and has all
    that the owner had before anything is decided. None: for nothing.
    """
    led, copy, drained = view.led, view.copy, view.wish.drained
    if led is None or led.decision.operation_id == view.wish.id:
        return None
    whose = f"{view.home}'s copy of {led.region}'s facts"
    if view.wish.freeze is None:
        refused = refusal(view)
        if refused is not None:
            return _refused(refused)
        if copy is not None and copy.lacks:
            return Answer("refused", f"{copy.lacks} lacks its beginning: recover from a backup")
        if copy is None or view.now_ms - copy.stamp_ms > LEVEL_MS:
            return Await(f"{whose} is level")
    elif drained is not None:
        wanted = vector(drained.positions)
        if copy is None or short(copy.seqs, wanted):
            return Await(f"{whose} has all that {led.primary} has committed")
    return None


def _failover(view: WishView) -> WishStep:
    ended = _end(view)
    if ended is not None:
        return ended
    led = view.led
    if led is None or led.decision.operation_id == view.wish.id:
        return _opened(view)
    refused = refusal(view)
    if refused is not None:
        return _refused(refused)
    node = view.control.nodes.get(led.primary)
    if node is not None and node.status not in GONE:
        return Move(led.primary, NodeStatus.LOST, f"failover asked for by {_by(view)}")
    return Flip(view.scope, led.epoch + 1, _target(view), "forced")


def _end(view: WishView) -> Answer | None:
    """Of a wish to change who leads: another decision was first, or its time is over."""
    led = view.led
    if led is None:
        return Answer("refused", f"{view.scope} has no primary")
    if led.decision.operation_id == view.wish.id:
        return None
    if led.epoch != view.wish.asked.based_on_epoch:
        why = f"{led.primary} leads since epoch {led.epoch}, by another decision"
        return Answer("overtaken", f"{why} ({led.decision.reason})")
    return Answer("timed-out", f"{led.primary} goes on as before") if view.over else None


def _freeze(view: WishView) -> WishStep | None:
    """The next step until another node leads by this wish; None when one does."""
    led, freeze = view.led, view.wish.freeze
    if led is None or led.decision.operation_id == view.wish.id:
        return None
    if freeze is None:
        refused = refusal(view)
        if refused is not None:
            return _refused(refused)
        return Freeze(view.scope, led.epoch, led.primary, _target(view))
    if freeze.held_epoch != led.epoch:
        return Answer("overtaken", f"{led.primary} leads since epoch {led.epoch}")
    why = next((c.excluded for c in successors(view) if c.node_id == freeze.target_node), "gone")
    if why:
        return Answer("refused", f"{freeze.target_node}: {why}; {led.primary} goes on as before")
    if view.wish.drained is None:
        return Await(f"{led.primary} commits what it has")
    return Flip(view.scope, led.epoch + 1, freeze.target_node, "switchover")


def _opened(view: WishView) -> WishStep:
    led = view.led
    if led is not None and view.opened < led.epoch:
        return Await(f"{led.primary} opens epoch {led.epoch}")
    return Answer("done", f"{led.primary} leads in epoch {led.epoch}" if led else "")


def _drain(view: WishView) -> WishStep:
    node, led = view.node, view.led
    if node is None or node.status in GONE:
        return Answer("overtaken", f"{view.wish.asked.node_id} is lost: others take its work")
    if node.status != NodeStatus.DRAINING:
        refused = refusal(view)
        if refused is not None or view.over:
            return _refused(refused) if refused else Answer("timed-out", "nothing was done")
        return Move(node.node_id, NodeStatus.DRAINING, f"drain asked for by {_by(view)}")
    if led is not None and led.primary == node.node_id:
        if view.over:
            return Answer("timed-out", f"{node.node_id} leads on; it takes no new work")
        return _freeze(view) or _opened(view)
    if led is not None and view.opened < led.epoch:
        return _opened(view)
    return _hand_over(view, node)


def _hand_over(view: WishView, node: NodeState) -> WishStep:
    """What a lost node's work would need, by the service's own plan."""
    lost = node._replace(status=NodeStatus.LOST.value)
    beats = {n: b for n, b in view.beats.items() if n != node.node_id}
    # what only says what follows from the loss, or is for others to know, is not said of a drain
    done = frozenset(get_args(StepName))
    step = view.planner.plan(View(view.control, lost, beats, view.opened, False, view.work, done))
    match step:
        case Finish():
            return Answer("done", f"{node.node_id} manages nothing and takes no new work")
        case Stuck():
            why = f"{node.node_id} drains on: {step.reason}"
            return Answer("timed-out", why) if view.over else Await(step.reason)
        case _:
            own: Any = step
            return own  # type: ignore[no-any-return]


def _rejoin(view: WishView) -> WishStep:
    node = view.node
    back = node is not None and node.changed_at > view.wish.asked_at
    if node is not None and back and node.status not in (*BACK, NodeStatus.REJOINING):
        return Answer("done", f"{node.node_id} is {node.status}")
    refused = refusal(view)
    if refused is not None and (node is None or not back):
        return _refused(refused)
    if view.over or node is None:
        return Answer("timed-out", refused.message if refused else "it does not beat steadily")
    if node.status == NodeStatus.DRAINING:
        return Move(node.node_id, NodeStatus.HEALTHY, f"rejoin asked for by {_by(view)}")
    if node.status in GONE:
        return Move(node.node_id, NodeStatus.REJOINING, f"rejoin asked for by {_by(view)}")
    return Await(f"{node.node_id} beats steadily")


_PLANS: Mapping[str, Callable[[WishView], WishStep]] = {
    "switchover": _switchover,
    "failover": _failover,
    "failback": _failback,
    "drain": _drain,
    "rejoin": _rejoin,
}


def _target(view: WishView) -> str:
    """Of a drain the best; else the node that was named, if one was."""
    named = "" if view.wish.asked.verb == "drain" else view.wish.asked.node_id
    return named or next(c.node_id for c in successors(view) if not c.excluded)


def _refused(error: Refusal) -> Answer:
    return Answer("refused", f"{error.message} ({error.hint})" if error.hint else error.message)


def _by(view: WishView) -> str:
    return view.wish.asked.operator
