"""Whether what an operator asks for can be done as things stand, and if not, why.

Asked by the command, which then asks for nothing, and again by the coordinator that carries it out.
Invariant: a node is promoted by a wish only if a loss could have promoted it. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from everlode.control.fences import Vector
from everlode.control.fold import ControlState, NodeState, ScopeState
from everlode.control.wishes import FAILBACK, Wish
from everlode.errors import Locked, NotFound, Precondition, Refusal
from everlode.events.nodes import TRANSITIONS, NodeStatus
from everlode.events.services import BY_FACTS
from everlode.failover.planner import GONE, Beating, Candidate, Planner, View, candidates

BACK = frozenset({NodeStatus.DRAINING, *GONE})
"""Statuses from which an operator takes a node back."""


GOES_HOME = frozenset({BY_FACTS["tasks"].scope})
"""Services whose primaries take over what was made elsewhere meanwhile (see `primary.adopted`)."""


class Copy(NamedTuple):
    """A region's copy of the facts that another one has written for its scope."""

    seqs: Vector
    """What it holds."""
    stamp_ms: int
    """Wall milliseconds of the oldest of its partitions' last records."""
    lacks: str = ""
    """A topic whose beginning is gone, its own or the copy; empty: both are whole."""


class NotEligible(Precondition):
    """No node can be promoted, or not the one that was named; says why of each."""

    default_code = "not_eligible"

    def __init__(self, message: str, nodes: list[Candidate]) -> None:
        said = (f"{c.node_id}: {c.excluded or 'can be promoted'}" for c in nodes)
        super().__init__(message, hint="; ".join(said) or "no other node has joined")
        self.candidates = nodes

    def as_dict(self) -> dict[str, Any]:
        """With `candidates`: each node, and why it cannot be promoted; empty: it can."""
        return {**super().as_dict(), "candidates": [c._asdict() for c in self.candidates]}


class WishView(NamedTuple):
    """All that the next step of a wish depends on."""

    control: ControlState
    wish: Wish
    beats: Mapping[str, Beating]
    """See planner.View."""
    opened: int
    """Lowest epoch of the scope that is open in every partition."""
    now_ms: int
    """Wall clock."""
    planner: Planner[Any]
    """The service's, for what a drained node leaves to do."""
    work: Any
    """What the node of a drain leaves to do."""
    handled: bool = True
    """False: the loss of the node that is to rejoin is still being handled."""
    copy: Copy | None = None
    """Of a failback: the home's copy of the owner's facts; None: not looked at yet."""

    @property
    def scope(self) -> str:
        """The scope that the wish is about."""
        return self.wish.asked.scope_name

    @property
    def led(self) -> ScopeState | None:
        """Who leads it."""
        return self.control.scopes.get(self.scope)

    @property
    def node(self) -> NodeState | None:
        """The node that the wish names."""
        return self.control.nodes.get(self.wish.asked.node_id)

    @property
    def home(self) -> str:
        """The scope's home region."""
        return self.scope.rpartition("/")[2]

    @property
    def over(self) -> bool:
        """Its time is over."""
        return self.now_ms >= self.wish.asked.expires_ms


def successors(view: WishView) -> list[Candidate]:
    """All other nodes of the scope, best first, each with why it cannot be promoted.

    Of a failback those of the home region.
    """
    led = view.led
    primary = view.control.nodes.get(led.primary) if led else None
    if primary is None:
        return []
    if view.wish.asked.verb == FAILBACK:
        primary = primary._replace(region=view.home)
    nodes = candidates(View(view.control, primary, view.beats, 0, False, None))
    return [c for c in nodes if c.node_id != primary.node_id]


def refusal(view: WishView) -> Refusal | None:
    """Why what is asked for cannot be done as things stand, or None. Not raised."""
    other = view.control.wishes.of(view.scope)
    asked = view.wish.asked
    if other is not None and other.id != asked.operation_id:
        return Locked(
            f"{view.scope}: {other.text} runs",
            hint="wait for its end: everlode status; the first one in the control log goes first",
        )
    if asked.node_id and (view.node is None or _scope_of(view.node) != view.scope):
        return NotFound(
            f"no node of {view.scope} is named {asked.node_id!r}",
            hint="everlode scope explain shows its nodes",
        )
    return _REFUSALS[asked.verb](view)


def _no_successor(view: WishView) -> Refusal | None:
    led, asked, nodes = view.led, view.wish.asked, successors(view)
    if led is None:
        return Precondition(f"{view.scope} has no primary", code="no_primary_yet")
    if asked.node_id == led.primary:
        return NotEligible(f"{asked.node_id} leads {view.scope} already", nodes)
    named = next((c for c in nodes if c.node_id == asked.node_id), None)
    if named is not None and named.excluded:
        message = f"{named.node_id} cannot lead {view.scope}: {named.excluded}"
        return NotEligible(message, nodes)
    if all(c.excluded for c in nodes):
        return NotEligible(f"no other node can lead {view.scope}", nodes)
    return None


def _no_switchover(view: WishView) -> Refusal | None:
    led = view.led
    node = view.control.nodes.get(led.primary) if led else None
    if led and (node is None or node.status in GONE or led.primary not in view.beats):
        return Precondition(
            f"{led.primary} cannot commit what it has: it is lost, or does not beat",
            code="primary_silent", hint=f"everlode scope failover {view.scope}",
        )  # fmt: skip
    return _no_successor(view)


def _no_failback(view: WishView) -> Refusal | None:
    led, home = view.led, view.home
    fence = view.control.fences.get(home)
    if led is not None and led.region == home:
        return Precondition(f"{view.scope} is {home}'s: it is at home", code="at_home")
    if fence is None or fence.out:
        hint = "everlode status shows what it waits for"
        return Precondition(f"{home} is no member again", code="no_member", hint=hint)
    if view.scope.partition("/")[0] not in GOES_HOME:
        can = ", ".join(sorted(GOES_HOME))
        hint = f"it stays where it is served; so far only {can} goes home"
        return Precondition(f"{view.scope} cannot go home", code="not_built", hint=hint)
    return _no_successor(view)


def _no_drain(view: WishView) -> Refusal | None:
    node, led = view.node, view.led
    if node is None:
        return NotFound("a drain names its node")
    drains = node.status == NodeStatus.DRAINING
    if not drains and NodeStatus.DRAINING not in TRANSITIONS[NodeStatus(node.status)]:
        hint = "wait until it is healthy; a lost node's work goes to others by itself"
        return Precondition(
            f"{node.node_id} is {node.status}: it cannot drain", code="not_drainable", hint=hint
        )
    return _no_successor_of(view) if led and led.primary == node.node_id else None


def _no_successor_of(view: WishView) -> Refusal | None:
    """As of a switchover that names nobody: the node to drain leads."""
    asked = view.wish.asked.model_copy(update={"node_id": ""})
    return _no_successor(view._replace(wish=view.wish._replace(asked=asked)))


def _no_rejoin(view: WishView) -> Refusal | None:
    node = view.node
    if node is None:
        return NotFound("a rejoin names its node")
    if node.status not in BACK and node.status != NodeStatus.REJOINING:
        return Precondition(
            f"{node.node_id} is {node.status}: there is nothing to take back", code="not_away"
        )
    if node.node_id not in view.beats:
        hint = "start its process first: everlode node run"
        return Precondition(f"{node.node_id} does not beat", code="not_beating", hint=hint)
    if not view.handled:
        hint = "wait for its end: everlode status"
        return Precondition(f"the loss of {node.node_id} is still handled", hint=hint)
    return None


def _no_pause(view: WishView) -> Refusal | None:
    until = view.wish.asked.until_ms
    if until is not None and until <= view.now_ms:
        return Refusal("the pause would have ended already", code="past", hint="--until, --for")
    return None


def _no_resume(view: WishView) -> Refusal | None:
    if view.control.wishes.pause(view.scope, view.now_ms) is None:
        return Precondition(f"{view.scope} is not paused", code="not_paused")
    return None


def _no_ack(view: WishView) -> Refusal | None:
    node = view.node
    if not view.wish.asked.node_id:
        cools = view.control.cooldowns.get(view.scope)
        if cools is not None and view.now_ms < cools.until_ms:
            return None
        return Precondition(
            f"{view.scope} does not cool down: there is nothing to acknowledge", code="over"
        )
    if node is None:
        return NotFound("an acknowledgement names its node, or a scope")
    if node.status not in (*GONE, NodeStatus.DEGRADED):
        return Precondition(
            f"{node.node_id} is {node.status}: its loss is over, there is nothing to acknowledge",
            code="over",
        )
    return None


_REFUSALS: Mapping[str, Callable[[WishView], Refusal | None]] = {
    "switchover": _no_switchover,
    "failover": _no_successor,
    "failback": _no_failback,
    "drain": _no_drain,
    "rejoin": _no_rejoin,
    "pause": _no_pause,
    "resume": _no_resume,
    "ack": _no_ack,
}


def _scope_of(node: NodeState) -> str:
    return f"{node.component}/{node.region}"
