"""What must be done about a lost node: the next step, planned from the view alone.

    [AwaitOthers ─► Level ─►] Decide ──► AwaitFence ──► steps of the service's own ──► Finish
     (registries)         (only a lost primary)           (e.g. Migrate; none for rewards)

A policy gives the next step that is possible now; carrying it out changes the view, and the next
plan follows. So any coordinator that sees the same logs goes on where another was killed. What all
services share is here: `succession` (who leads next) and `finish`; a service's policy puts its own
steps between them (see `policy`).

Invariants: fence, then promote, then the service's own steps; a decision names the epoch and the
position that it is based on. Pure.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from math import inf
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, get_args
from uuid import UUID, uuid5

from everlode.balancing.assign import MANAGING
from everlode.control.fold import ControlState, NodeState
from everlode.events.nodes import NodeStatus
from everlode.events.stamp import millis_of
from everlode.events.types import PPM, RecoveryAction, StepName
from everlode.health.score import NodeSeen, node_health
from everlode.health.weights import GATE

NAMESPACE = UUID("3b8f7a52-7f0e-5a43-8a0e-9f4c2b6d1e03")
PROMOTABLE = frozenset({NodeStatus.HEALTHY, NodeStatus.REJOINING, NodeStatus.DEGRADED})
GONE = frozenset({NodeStatus.LOST, NodeStatus.FENCED})
"""Statuses of a node whose scope and work go to others."""
LEVEL_MS = 3_000
"""Who is behind by more comes after all who are not: beats come each second, not at once."""
LEVEL_WAIT_MS = 5_000
"""A candidate is waited for so long to be level; then it reads the rest before it leads."""

W = TypeVar("W")
"""What the lost node leaves to do, as the service's policy sees it; immutable."""


class Beating(NamedTuple):
    """What a node that beats said last."""

    queue_size: int
    load_ppm: int
    status: str = NodeStatus.HEALTHY.value
    read_stamp: int | None = None
    """Stamp up to which it has read, or written, its component's facts; 0: nothing; None: it does
    not say."""
    leads: bool = True
    """False: it says that it is secondary, or was chosen and does not lead yet."""


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
    behind_ms: int | None = None
    """How much older what it has read is than what any node has; None: it does not say."""


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


class AwaitOthers(NamedTuple):
    """Wait for what only others can do; it is no fault."""

    what: str


class Stuck(NamedTuple):
    """Nothing can be done here now, and why."""

    reason: str


class Finish(NamedTuple):
    """Everything is done, or overtaken: publish the end."""

    action: RecoveryAction
    new_primary: str | None
    success: bool


class OwnStep(Protocol):
    """A step of a service's own, as a NamedTuple: commands to its primary (see `Policy.orders`),
    an event for others (see `Policy.event`), or what was seen to be so; its record comes first."""

    @property
    def name(self) -> StepName:
        """What it is called on the recovery stream."""

    @property
    def detail(self) -> str:
        """What tells it from other steps of its name in one operation."""

    @property
    def total(self) -> int:
        """How many tasks, miners or validations it is about; 0 where nothing is counted."""

    def _asdict(self) -> dict[str, Any]: ...


Step = Decide | AwaitFence | AwaitOthers | Stuck | Finish | OwnStep


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
    done: Container[str] = frozenset()
    """Names of the steps that the recovery stream has of this operation."""
    written: int = 0
    """Stamp up to which the lost node had read or written its log, by its last beat; 0: unknown."""
    waited_ms: int = 0
    """Since the handling began, whichever coordinator began it."""

    @property
    def scope(self) -> str:
        """The scope that the node may have led."""
        return f"{self.node.component}/{self.node.region}"


class Planner(Protocol[W]):
    """The pure half of a policy."""

    def plan(self, view: View[W]) -> Step:
        """The next step; Finish when nothing is left to do."""

    def awaited(self, view: View[W]) -> View[W]:
        """The view once others have done what the plan waits for."""

    def after(self, work: W, step: OwnStep) -> W:
        """What is left to do once a step of the service's own has succeeded."""


def operation_id(node: NodeState) -> str:
    """Id of the handling of one loss of one node: the same for every coordinator."""
    return str(uuid5(NAMESPACE, f"{node.node_id}/{node.changed_at}"))


def candidates(view: View[W]) -> list[Candidate]:
    """All nodes of the component in the region, best first, each with its exclusion.

    Who is not well enough, or far behind, comes after all who are not, whatever its priority, a
    degraded one last: it is better than nobody.
    """
    found = []
    nodes = view.control.nodes_of(view.node.region, view.node.component)
    read = [view.beats[n.node_id].read_stamp or 0 for n in nodes if n.node_id in view.beats]
    newest = max(view.written, *read, 0)
    for node in nodes:
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
                None if said.read_stamp is None else millis_of(newest) - millis_of(said.read_stamp),
            )
        )  # fmt: skip
    return sorted(
        found,
        key=lambda c: (
            c.excluded != "", c.status == NodeStatus.DEGRADED, c.status != NodeStatus.HEALTHY,
            c.health <= GATE, (c.behind_ms or 0) > LEVEL_MS, -c.priority, -c.health, c.load_ppm,
            c.node_id,
        ),
    )  # fmt: skip


def at_work_beside(control: ControlState, node: NodeState) -> tuple[str, ...]:
    """The other nodes of a node's component, kind and region that work, sorted."""
    return tuple(
        sorted(
            other.node_id
            for other in control.nodes_of(node.region, node.component)
            if other.node_id != node.node_id
            and (other.kind or node.kind) == (node.kind or other.kind)
            and other.status in MANAGING
        )
    )


def succession(view: View[W]) -> Step | None:
    """The next step until a successor leads, or the end of a loss that is overtaken.

    None: the scope has a fenced-in primary other than the lost node.
    """
    led = view.control.scopes.get(view.scope)
    if view.node.status not in GONE:
        return finish(view)
    if led is None:
        return None
    if led.region != view.node.region:
        return finish(view)  # another region has taken it: nothing waits for a node here
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
            case AwaitOthers():
                view = planner.awaited(view)
            case Stuck() | Finish():
                return
            case _:
                done = {name for name in get_args(StepName) if name in view.done}
                work = planner.after(view.work, step)
                view = view._replace(work=work, done=done | {step.name})


def _decided(view: View[W], step: Decide) -> View[W]:
    led = view.control.scopes[step.scope]
    after = led._replace(epoch=step.new_epoch, primary=step.primary)
    scopes = MappingProxyType({**view.control.scopes, step.scope: after})
    return view._replace(control=replace(view.control, scopes=scopes), decided=True)
