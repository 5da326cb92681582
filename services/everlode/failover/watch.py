"""What a coordinator knows from the logs of its region: beats, active tasks, opened epochs.

Kept by reading, so that a coordinator that takes over knows the same. Memory: one entry an active
task and a node. Pure, but for its own memory.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

from everlode.events import tasks as t
from everlode.events.barriers import EpochOpened
from everlode.events.base import Evidence, Fact
from everlode.events.heartbeats import NodeBeat

FRESH_S = 3.0
MOVED_MOST = 50_000
"""Migrations from a node that are remembered."""


class LastBeat(NamedTuple):
    """The last beat of a node: where it stands, and when it was read (monotonic; 0: old news)."""

    beat: NodeBeat
    partition: int
    offset: int
    read_at: float


class Beats:
    """Last beat of each node."""

    def __init__(self) -> None:
        self.last: dict[str, LastBeat] = {}

    def saw(self, fact: Fact, partition: int, offset: int, behind: bool) -> None:
        """`behind`: the record is old news, read while catching up."""
        if isinstance(fact.data, NodeBeat):
            at = 0.0 if behind else time.monotonic()
            self.last[fact.envelope.aggregate_id] = LastBeat(fact.data, partition, offset, at)

    def fresh(self) -> dict[str, tuple[int, int]]:
        """Node → (queue size, load) of the nodes that beat now."""
        now = time.monotonic()
        return {
            node: (last.beat.queue_size, last.beat.load_ppm)
            for node, last in self.last.items()
            if now - last.read_at < FRESH_S
        }

    def since(self, node: str, evidence: Sequence[Evidence]) -> bool:
        """True when the node has beaten after all that this evidence names: it is overtaken."""
        last = self.last.get(node)
        return last is not None and all(
            last.partition == e.partition and last.offset > e.offset for e in evidence
        )


class ActiveTasks:
    """Which node manages which task under way; and the epochs opened in the task partitions."""

    def __init__(self, partitions: int) -> None:
        self.manager: dict[str, str] = {}
        self.loads: Counter[str] = Counter()
        self._opened: list[dict[str, int]] = [{} for _ in range(partitions)]
        self.opened_at: dict[tuple[str, int], int] = {}
        """(scope, epoch) → stamp of the last partition's EpochOpened."""
        self._moved: dict[str, deque[tuple[str, str, str]]] = {}

    def saw(self, partition: int, fact: Fact) -> None:
        """Fold one record of the home region's task topic, in order within its partition."""
        data, key = fact.data, fact.envelope.aggregate_id
        match data:
            case EpochOpened():
                for item in data.scopes:
                    known = self._opened[partition].get(item.scope, 0)
                    self._opened[partition][item.scope] = max(known, item.epoch)
                    at = (item.scope, item.epoch)
                    self.opened_at[at] = max(self.opened_at.get(at, 0), fact.envelope.stamp)
            case t.TaskAssigned():
                self._put(key, data.manager_node)
            case t.TaskMigrated():
                self._put(key, data.to_node)
                moved = self._moved.setdefault(data.from_node, deque(maxlen=MOVED_MOST))
                moved.append((key, data.to_node, fact.envelope.command_id or ""))
            case t.TaskSolved() | t.TaskAttemptFailed() | t.TaskLeaseExpired() | t.TaskCancelled():
                self._put(key, None)

    def _put(self, task: str, node: str | None) -> None:
        old = self.manager.pop(task, None)
        if old is not None:
            self.loads[old] -= 1
        if node is not None:
            self.manager[task] = node
            self.loads[node] += 1

    def opened(self, scope: str) -> int:
        """Lowest epoch of the scope that is open in every partition."""
        return min((p.get(scope, 0) for p in self._opened), default=0)

    def of(self, node: str) -> tuple[str, ...]:
        """Tasks under way that a node manages, sorted."""
        return tuple(sorted(k for k, n in self.manager.items() if n == node))

    def moved(self, node: str) -> tuple[tuple[str, str, str], ...]:
        """Migrations from a node, oldest first: (task, to node, command id)."""
        return tuple(self._moved.get(node, ()))
