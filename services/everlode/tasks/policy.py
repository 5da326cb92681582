"""The failover of task managers: a successor, then the lost node's tasks migrate.

    Decide ─► AwaitFence ─► Migrate ─► … ─► Migrate ─► Finish
                            (200 tasks at most, each to the best node with room)

Any loss migrates tasks, not only a primary's: every healthy node manages some. Invariants: a node
gets no more tasks than it can manage; a move names the node that it is from, so it is carried out
once, whichever coordinator sends it. Its id names the operation, and is drawn: one that could be
computed could be used up by the task's miner. Pure, but for that, and for what it has observed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

from everlode.balancing.specialties import by_specialty
from everlode.control.fold import ScopeState
from everlode.events.base import Event, Fact
from everlode.events.commands import MigrateTask
from everlode.events.recovery import TaskManagerRecoveryEnded
from everlode.events.services import BY_FACTS
from everlode.events.states import TaskState
from everlode.events.types import StepName
from everlode.failover.epochs import OpenedEpochs
from everlode.failover.planner import (
    PROMOTABLE,
    OwnStep,
    Step,
    Stuck,
    View,
    finish,
    succession,
)
from everlode.failover.policy import End, Order, Succession
from everlode.snapshots.read import Snapshot
from everlode.tasks.active import ActiveTasks

MIGRATE_MOST = 200
"""Tasks that migrate in one step; the next step begins when these are answered."""


class Migrate(NamedTuple):
    """Give tasks to other managing nodes: (task, to node)."""

    from_node: str
    moves: tuple[tuple[str, str], ...]

    @property
    def name(self) -> StepName:
        """See OwnStep."""
        return "migrate"

    @property
    def detail(self) -> str:
        """See OwnStep."""
        return f"{len(self.moves)} tasks from {self.moves[0][0]}"

    @property
    def total(self) -> int:
        """See OwnStep."""
        return len(self.moves)


class TaskWork(NamedTuple):
    """What a lost task manager leaves to do."""

    managed: tuple[str, ...]
    """Tasks under way that it managed, sorted."""
    loads: Mapping[str, int]
    """Tasks under way that each task manager manages."""
    max_concurrent: int
    types: Mapping[str, str]
    """Task under way → its type."""


def migrate_id(operation: str) -> str:
    """A new id of a command that moves a task."""
    return f"{operation}/{uuid4()}"


class TaskPolicy(Succession):
    """See failover.policy. `lease` is that of a migrated task, in event time."""

    service = BY_FACTS["tasks"]
    facts: str | None = "tasks"

    def __init__(self, partitions: int, max_concurrent: int, lease: timedelta) -> None:
        self._max_concurrent = max_concurrent
        self._lease = lease
        self._active = ActiveTasks()
        self._epochs = OpenedEpochs(partitions)

    def restore(self, snapshot: Snapshot) -> None:
        """See Policy."""
        for alive in snapshot.entries():
            if isinstance(alive.state, TaskState):
                self._active.restore(alive.state)
        for partition, mark in snapshot.marks.items():
            self._epochs.restore(partition, mark)

    def observe(self, partition: int, fact: Fact) -> None:
        """See Policy."""
        self._active.observe(fact)
        self._epochs.observe(partition, fact)

    def opened(self, led: ScopeState) -> int:
        """See Policy: by the task topic itself."""
        return self._epochs.lowest(led.scope)

    def opened_ms(self, led: ScopeState) -> int | None:
        """See Policy."""
        return self._epochs.at_ms(led.scope, led.epoch)

    def work(self, node_id: str) -> TaskWork:
        """See Policy."""
        active = self._active
        return TaskWork(active.of(node_id), active.loads, self._max_concurrent, active.types)

    def plan(self, view: View[TaskWork]) -> Step:
        """See Planner."""
        return succession(view) or _migration(view) or finish(view)

    def awaited(self, view: View[TaskWork]) -> View[TaskWork]:
        """See Planner: it waits for nothing."""
        return view

    def after(self, work: TaskWork, step: OwnStep) -> TaskWork:
        """See Planner."""
        assert isinstance(step, Migrate)  # noqa: S101 - it has no other
        moved = dict(step.moves)
        loads = Counter({**work.loads})
        loads.update(moved.values())
        left = tuple(task for task in work.managed if task not in moved)
        return work._replace(managed=left, loads=loads)

    def orders(self, step: OwnStep, operation: str, now: datetime) -> Iterator[Order]:
        """See Policy: one command a task."""
        assert isinstance(step, Migrate)  # noqa: S101 - it has no other
        until = now + self._lease
        for task, node in step.moves:
            move = MigrateTask(from_node=step.from_node, to_node=node, lease_until=until)
            yield Order(task, move, migrate_id(operation))

    def ended(self, end: End) -> Event:
        """See Policy."""
        node = end.node.node_id
        migrated = {
            m.task for m in self._active.moved(node) if m.command_id.startswith(f"{end.operation}/")
        }
        return TaskManagerRecoveryEnded(
            failed_node=node, recovery_action=end.action, new_primary=end.new_primary,
            target_region=None, migrated_tasks=len(migrated),
            estimated_recovery_ms=end.estimate.ms, estimate_cases=end.estimate.cases,
            actual_recovery_ms=end.took_ms, detect_ms=end.detect_ms, success=end.success,
        )  # fmt: skip


def _migration(view: View[TaskWork]) -> Step | None:
    """Spread the tasks over the healthy nodes, each time to the least loaded with room, of those
    that are special in its type as long as one of them has any."""
    work = view.work
    if not work.managed:
        return None
    specialties = {
        n.node_id: n.specialties
        for n in view.control.nodes_of(view.node.region, view.node.component)
        if n.node_id != view.node.node_id and n.node_id in view.beats and n.status in PROMOTABLE
    }
    loads = {node: work.loads.get(node, 0) for node in specialties}
    moves = []
    for task in work.managed[:MIGRATE_MOST]:
        suited = by_specialty(work.types.get(task, ""), specialties)
        best = (min(nodes, key=lambda n: (loads[n], n)) for nodes in suited)
        node = next((n for n in best if loads[n] < work.max_concurrent), None)
        if node is None:
            break
        loads[node] += 1
        moves.append((task, node))
    if not moves:
        return Stuck("no task manager has room for the tasks of the lost node")
    return Migrate(view.node.node_id, tuple(moves))
