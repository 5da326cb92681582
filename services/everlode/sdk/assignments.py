"""Which tasks are a miner's, by the facts that name it. Pure.

    TaskAssigned ──► held ──► TaskSolved, TaskAttemptFailed, TaskLeaseExpired, TaskCancelled: over
    TaskProgressed, TaskMigrated of a task that is not held: its assignment lies further back

Invariants: a fact that comes again changes nothing; a task that is over is held again only by a
later assignment.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from everlode.events import tasks as t
from everlode.events.base import Fact
from everlode.topics.place import TopicPartition


class Assignment(NamedTuple):
    """A task that is assigned to the miner, as the log has it."""

    task_id: str
    at: TopicPartition
    offset: int
    """Of the assignment; tells it from another of the same task."""
    version: int
    """Of the last fact about it."""
    assigned_at: datetime
    assigned: t.TaskAssigned
    attempt: int
    """Rises when the task goes to another managing node."""
    progress_ppm: int = 0
    checkpoint_uri: str | None = None


class Assignments:
    """One miner's."""

    def __init__(self, miner_id: str) -> None:
        self.miner_id = miner_id
        self.held: dict[str, Assignment] = {}
        self.lacking: dict[str, TopicPartition] = {}
        """Tasks of the miner whose assignment was not among the facts → their partition."""
        self.solved = 0
        """Tasks that were held and handed in."""
        self._next: dict[TopicPartition, int] = {}

    def observe(self, at: TopicPartition, offset: int, fact: Fact) -> None:
        """Fold a fact of the task topic, in order within its partition."""
        self._next[at] = max(offset + 1, self._next.get(at, 0))
        if getattr(fact.data, "miner_id", None) != self.miner_id:
            return
        key, version = fact.envelope.aggregate_id, fact.envelope.version
        held = self.held.get(key)
        if held is not None and version <= held.version:
            return
        match fact.data:
            case t.TaskAssigned() as data:
                self.lacking.pop(key, None)
                self.held[key] = Assignment(
                    key, at, offset, version, fact.envelope.occurred_at, data, data.attempt,
                    checkpoint_uri=data.checkpoint_uri,
                )  # fmt: skip
            case t.TaskProgressed() | t.TaskMigrated() if held is None:
                self.lacking[key] = at
            case t.TaskProgressed() as data if held is not None:
                self.held[key] = held._replace(
                    version=version, progress_ppm=data.progress_ppm,
                    checkpoint_uri=data.checkpoint_uri or held.checkpoint_uri,
                )  # fmt: skip
            case t.TaskMigrated() as data if held is not None:
                self.held[key] = held._replace(version=version, attempt=data.attempt)
            case t.TaskSolved() | t.TaskAttemptFailed() | t.TaskLeaseExpired() | t.TaskCancelled():
                self.lacking.pop(key, None)
                if self.held.pop(key, None) is not None:
                    self.solved += isinstance(fact.data, t.TaskSolved)

    def passed(self, at: TopicPartition, offset: int) -> None:
        """A record that does not concern the miner was read."""
        self._next[at] = max(offset + 1, self._next.get(at, 0))

    def oldest_first(self) -> list[Assignment]:
        """All that is held, in the order of its assignment."""
        return sorted(self.held.values(), key=lambda h: (h.assigned_at, h.task_id))

    def position(self) -> dict[TopicPartition, int]:
        """Where to go on so that nothing that is held is missed: one offset a partition read."""
        found = dict(self._next)
        for held in self.held.values():
            found[held.at] = min(held.offset, found.get(held.at, held.offset))
        return found
