"""What must be done about a lost node: typed steps, planned from the view alone.

`plan` gives the next steps that are possible now; carrying them out changes the view, and the
next plan follows. So any coordinator that sees the same logs goes on where another was killed.
Invariants: fence, then promote, then migrate; a decision names the epoch and the position that it
is based on; a node gets no more tasks than it can manage. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID, uuid5

from everlode.control.fold import ControlState, NodeState
from everlode.control.scopes import COMPONENT_OF
from everlode.events.nodes import NodeStatus

NAMESPACE = UUID("3b8f7a52-7f0e-5a43-8a0e-9f4c2b6d1e03")
MIGRATE_MOST = 200
"""Tasks that migrate in one step; the next step begins when these are answered."""
PROMOTABLE = frozenset({NodeStatus.HEALTHY, NodeStatus.REJOINING, NodeStatus.JOINING})
GONE = frozenset({NodeStatus.LOST, NodeStatus.FENCED})
"""Statuses of a node whose scope and tasks go to others."""


class Candidate(NamedTuple):
    """A node that might be promoted, and why not, if not."""

    node_id: str
    status: str
    priority: int
    queue_size: int
    load_ppm: int
    excluded: str
    """Empty for an eligible one."""


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


class Migrate(NamedTuple):
    """Give tasks to other managing nodes: (task, to node)."""

    from_node: str
    moves: tuple[tuple[str, str], ...]


class Stuck(NamedTuple):
    """Nothing can be done here now, and why."""

    reason: str


class Finish(NamedTuple):
    """Everything is done, or overtaken: publish the end."""

    action: str
    new_primary: str | None
    success: bool


Step = Decide | AwaitFence | Migrate | Stuck | Finish


class View(NamedTuple):
    """All that a plan depends on."""

    control: ControlState
    node: NodeState
    """The node that is lost; one that is back meanwhile ends the handling."""
    beats: Mapping[str, tuple[int, int]]
    """Node → (queue size, load in millionths) of its last beat; only of nodes that beat."""
    opened: Mapping[str, int]
    """Scope → lowest epoch that is open in every partition."""
    managed: tuple[str, ...]
    """Tasks under way that the lost node managed, sorted."""
    loads: Mapping[str, int]
    """Tasks under way that each task manager node manages."""
    max_concurrent: int
    decided: bool
    """True when the node led its scope in the epoch before, and a decision replaced it."""


def operation_id(node: NodeState) -> str:
    """Id of the handling of one loss of one node: the same for every coordinator."""
    return str(uuid5(NAMESPACE, f"{node.node_id}/{node.changed_at}"))


def migrate_id(operation: str, task: str, node: str) -> str:
    """Id of the command that moves a task to a node: sent again, it is carried out once."""
    return str(uuid5(NAMESPACE, f"{operation}/migrate/{task}/{node}"))


def candidates(view: View) -> list[Candidate]:
    """All nodes of the component in the region, best first, each with its exclusion."""
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
        queue, load = beat or (0, 0)
        found.append(Candidate(node.node_id, node.status, node.priority, queue, load, why))
    return sorted(
        found,
        key=lambda c: (
            c.excluded != "", c.status != NodeStatus.HEALTHY, -c.priority, c.load_ppm, c.node_id,
        ),
    )  # fmt: skip


def plan(view: View) -> Iterator[Step]:
    """The next steps, in order; the last is Finish when nothing is left to do."""
    scope = f"{view.node.component}/{view.node.region}"
    led = view.control.scopes.get(scope)
    action = "secondary-promoted" if view.decided else "secondary-removed"
    new_primary = led.primary if view.decided and led else None
    if view.node.status not in GONE:
        yield Finish(action, new_primary, view.decided)
        return
    if led is not None and led.primary == view.node.node_id:
        best = next((c for c in candidates(view) if not c.excluded), None)
        if best is None:
            yield Stuck(f"{scope}: no node of the region can be promoted")
            return
        yield Decide(scope, led.epoch + 1, best.node_id, view.control.position)
        return
    if led is not None and view.opened.get(scope, 0) < led.epoch:
        yield AwaitFence(scope, led.epoch, led.primary)
        return
    if COMPONENT_OF[view.node.component] == "tasks" and view.managed:
        yield _migration(view)
        return
    yield Finish(action, new_primary, True)


def _migration(view: View) -> Step:
    """Spread the tasks over the healthy nodes, each time to the least loaded with room."""
    loads = {
        n.node_id: view.loads.get(n.node_id, 0)
        for n in view.control.nodes_of(view.node.region, view.node.component)
        if n.node_id != view.node.node_id and n.node_id in view.beats and n.status in PROMOTABLE
    }
    moves = []
    for task in view.managed[:MIGRATE_MOST]:
        node = min(loads, key=lambda n: (loads[n], n), default=None)
        if node is None or loads[node] >= view.max_concurrent:
            break
        loads[node] += 1
        moves.append((task, node))
    if not moves:
        return Stuck("no task manager has room for the tasks of the lost node")
    return Migrate(view.node.node_id, tuple(moves))


def foresee(view: View) -> Iterator[Step]:
    """All steps to the end, if each succeeds at once and nothing else happens: a dry run."""
    scope = f"{view.node.component}/{view.node.region}"
    while True:
        step = next(plan(view))
        yield step
        match step:
            case Decide():
                view = _decided(view, step)
            case AwaitFence():
                view = view._replace(opened={**view.opened, scope: step.epoch})
            case Migrate():
                moved = dict(step.moves)
                loads = Counter({**view.loads})
                loads.update(moved.values())
                left = tuple(t for t in view.managed if t not in moved)
                view = view._replace(managed=left, loads=loads)
            case Stuck() | Finish():
                return


def _decided(view: View, step: Decide) -> View:
    led = view.control.scopes[step.scope]
    after = led._replace(epoch=step.new_epoch, primary=step.primary)
    scopes = MappingProxyType({**view.control.scopes, step.scope: after})
    return view._replace(control=replace(view.control, scopes=scopes), decided=True)
