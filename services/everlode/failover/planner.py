"""What must be done about a lost node: the next step, planned from the view alone.

    Decide ──► AwaitFence ──► steps of the service's own ──► Finish
      (only a lost primary)     (e.g. Migrate; none for most)

A policy gives the next step that is possible now; carrying it out changes the view, and the next
plan follows. So any coordinator that sees the same logs goes on where another was killed. What all
services share is here: `succession` (who leads next) and `finish`; a service's policy puts its own
steps between them (see `policy`).

Invariants: fence, then promote, then the service's own steps; a decision names the epoch and the
position that it is based on. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import inf
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID, uuid5

from everlode.control.fold import ControlState, NodeState
from everlode.events.nodes import NodeStatus
from everlode.events.types import PPM, RecoveryAction, StepName
from everlode.health.score import NodeSeen, node_health
from everlode.health.weights import GATE

NAMESPACE = UUID("3b8f7a52-7f0e-5a43-8a0e-9f4c2b6d1e03")
PROMOTABLE = frozenset({NodeStatus.HEALTHY, NodeStatus.REJOINING, NodeStatus.DEGRADED})
GONE = frozenset({NodeStatus.LOST, NodeStatus.FENCED})
"""Statuses of a node whose scope and work go to others."""

W = TypeVar("W")
"""What the lost node leaves to do, as the service's policy sees it; immutable."""


class Beating(NamedTuple):
    """What a node that beats said last."""

    queue_size: int
    load_ppm: int
    status: str = NodeStatus.HEALTHY.value


class Candidate(NamedTuple):
    """A node that might be promoted, and why not, if not."""

    node_id: str
    status: str
    priority: int
    queue_size: int
    load_ppm: int
    excluded: str
    """Empty for an eligible one."""
    health: float = 0.0
    """See docs/health.md; 0 of one that does not beat."""


class Decide(NamedTuple):
    """Append ScopeAssigned: the scope's next epoch belongs to `primary`."""

    scope: str
    new_epoch: int
    primary: str
    based_on: int


class AwaitFence(NamedTuple):
    """Wait until the new primary has opened its epoch in every partition."""

    scope: str
    epoch: int
    primary: str


class Stuck(NamedTuple):
    """Nothing can be done here now, and why."""

    reason: str


class Finish(NamedTuple):
    """Everything is done, or overtaken: publish the end."""

    action: RecoveryAction
    new_primary: str | None
    success: bool


class OwnStep(Protocol):
    """A step of a service's own, as a NamedTuple: commands to its primary (see `Policy.orders`)."""

    @property
    def name(self) -> StepName:
        """What it is called on the recovery stream."""

    @property
    def detail(self) -> str:
        """What tells it from other steps of its name in one operation."""

    def _asdict(self) -> dict[str, Any]: ...


Step = Decide | AwaitFence | Stuck | Finish | OwnStep


class View(NamedTuple, Generic[W]):
    """All that a plan depends on."""

    control: ControlState
    node: NodeState
    """The node that is lost; one that is back meanwhile ends the handling."""
    beats: Mapping[str, Beating]
    """Node → its last heartbeat; only of nodes that beat."""
    opened: int
    """Lowest epoch of the node's scope that is open in every partition."""
    decided: bool
    """True when the node led its scope in the epoch before, and a decision replaced it."""
    work: W

    @property
    def scope(self) -> str:
        """The scope that the node may have led."""
        return f"{self.node.component}/{self.node.region}"


class Planner(Protocol[W]):
    """The pure half of a policy."""

    def plan(self, view: View[W]) -> Step:
        """The next step; Finish when nothing is left to do."""

    def after(self, work: W, step: OwnStep) -> W:
        """What is left to do once a step of the service's own has succeeded."""


def operation_id(node: NodeState) -> str:
    """Id of the handling of one loss of one node: the same for every coordinator."""
    return str(uuid5(NAMESPACE, f"{node.node_id}/{node.changed_at}"))


def candidates(view: View[W]) -> list[Candidate]:
    """All nodes of the component in the region, best first, each with its exclusion.

    Who is not well enough comes after all who are, whatever its priority, a degraded one last: it
    is better than nobody.
    """
    found = []
    for node in view.control.nodes_of(view.node.region, view.node.component):
        beat = view.beats.get(node.node_id)
        why = ""
        if node.node_id == view.node.node_id:
            why = "it is the lost node"
        elif node.status not in PROMOTABLE:
            why = f"it is {node.status}"
        elif beat is None:
            why = "it does not beat"
        said = Beating(0, 0) if beat is None else beat
        seen = NodeSeen(
            node.node_id, node.status, said.status, inf if beat is None else 0.0,
            said.load_ppm / PPM,
        )  # fmt: skip
        found.append(
            Candidate(
                node.node_id, node.status, node.priority, said.queue_size, said.load_ppm, why,
                round(node_health(seen).score or 0.0, 3),
            )
        )  # fmt: skip
    return sorted(
        found,
        key=lambda c: (
            c.excluded != "", c.status == NodeStatus.DEGRADED, c.status != NodeStatus.HEALTHY,
            c.health <= GATE, -c.priority, -c.health, c.load_ppm, c.node_id,
        ),
    )  # fmt: skip


def succession(view: View[W]) -> Step | None:
    """The next step until a successor leads, or the end of a loss that is overtaken.

    None: the scope has a fenced-in primary other than the lost node.
    """
    led = view.control.scopes.get(view.scope)
    if view.node.status not in GONE:
        return finish(view)
    if led is None:
        return None
    if led.primary == view.node.node_id:
        best = next((c for c in candidates(view) if not c.excluded), None)
        if best is None:
            return Stuck(f"{view.scope}: no node of the region can be promoted")
        return Decide(view.scope, led.epoch + 1, best.node_id, view.control.position)
    if view.opened < led.epoch:
        return AwaitFence(view.scope, led.epoch, led.primary)
    return None


def finish(view: View[W]) -> Finish:
    """The end as it stands. A node that came back before a decision was not handled: no success."""
    led = view.control.scopes.get(view.scope)
    return Finish(
        "secondary-promoted" if view.decided else "secondary-removed",
        led.primary if view.decided and led else None,
        view.decided or view.node.status in GONE,
    )


def foresee(view: View[W], planner: Planner[W]) -> Iterator[Step]:
    """All steps to the end, if each succeeds at once and nothing else happens: a dry run."""
    while True:
        step = planner.plan(view)
        yield step
        match step:
            case Decide():
                view = _decided(view, step)
            case AwaitFence():
                view = view._replace(opened=step.epoch)
            case Stuck() | Finish():
                return
            case _:
                view = view._replace(work=planner.after(view.work, step))


def _decided(view: View[W], step: Decide) -> View[W]:
    led = view.control.scopes[step.scope]
    after = led._replace(epoch=step.new_epoch, primary=step.primary)
    scopes = MappingProxyType({**view.control.scopes, step.scope: after})
    return view._replace(control=replace(view.control, scopes=scopes), decided=True)
