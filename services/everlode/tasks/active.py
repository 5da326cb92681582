"""Which node manages which task under way, by the task facts of one home region.

Memory: one entry an active task, and the last migrations from each node. Pure.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

from everlode.events import tasks as t
from everlode.events.base import Fact
from everlode.events.states import TaskState

MOVED_MOST = 50_000
"""Migrations from a node that are remembered."""


class Moved(NamedTuple):
    """A task that migrated, and the command that asked for it."""

    task: str
    to_node: str
    command_id: str


class ActiveTasks:
    """Folds the region's task topic."""

    def __init__(self) -> None:
        self.manager: dict[str, str] = {}
        self.loads: Counter[str] = Counter()
        """Node → tasks under way that it manages."""
        self.types: dict[str, str] = {}
        """Task under way → its type."""
        self._moved: dict[str, deque[Moved]] = {}

    def restore(self, state: TaskState) -> None:
        """Begin with a task as it is alive."""
        if state.status == "assigned":
            self._put(state.key, state.manager_node)
            self.types[state.key] = state.task_type

    def observe(self, fact: Fact) -> None:
        """Fold one record, in order within its partition."""
        data, key = fact.data, fact.envelope.aggregate_id
        match data:
            case t.TaskAssigned():
                self._put(key, data.manager_node)
                self.types[key] = data.task_type or ""
            case t.TaskMigrated():
                self._put(key, data.to_node)
                moved = self._moved.setdefault(data.from_node, deque(maxlen=MOVED_MOST))
                moved.append(Moved(key, data.to_node, fact.envelope.command_id or ""))
            case t.TaskSolved() | t.TaskAttemptFailed() | t.TaskLeaseExpired() | t.TaskCancelled():
                self._put(key, None)
                self.types.pop(key, None)

    def _put(self, task: str, node: str | None) -> None:
        old = self.manager.pop(task, None)
        if old is not None:
            self.loads[old] -= 1
        if node is not None:
            self.manager[task] = node
            self.loads[node] += 1

    def of(self, node: str) -> tuple[str, ...]:
        """Tasks under way that a node manages, sorted."""
        return tuple(sorted(k for k, n in self.manager.items() if n == node))

    def moved(self, node: str) -> tuple[Moved, ...]:
        """Migrations from a node, oldest first."""
        return tuple(self._moved.get(node, ()))
