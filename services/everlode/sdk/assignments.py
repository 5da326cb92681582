"""Which tasks are a miner's, by its records of the work topic. Pure.

Invariants: a record that comes again changes nothing; the newest one of a task is whole.
"""

from __future__ import annotations

from everlode.events.snapshots import AssignedTask, work_key


class Assignments:
    """One miner's, by its partition."""

    def __init__(self, miner_id: str) -> None:
        self.miner_id = miner_id
        self.mark = work_key(miner_id, "")
        """What the keys of its records begin with."""
        self.held: dict[str, AssignedTask] = {}
        self._at: dict[str, int] = {}
        """Task that is held → offset of its newest record."""
        self._next = 0

    def is_mine(self, key: bytes) -> bool:
        """Whether a record is about a task of this miner."""
        return key.startswith(self.mark)

    def observe(self, offset: int, key: bytes, work: AssignedTask | None) -> None:
        """Take a record of the miner in, in order; without `work` it has the task no more."""
        if offset < self._next:
            return
        self.passed(offset)
        task_id = key[len(self.mark) :].decode()
        self.held.pop(task_id, None)
        self._at.pop(task_id, None)
        if work is not None:
            self.held[task_id], self._at[task_id] = work, offset

    def passed(self, offset: int) -> None:
        """A record that is another's was read."""
        self._next = max(offset + 1, self._next)

    def oldest_first(self) -> list[AssignedTask]:
        """All that is held, in the order of its assignment."""
        return sorted(self.held.values(), key=lambda held: (held.assigned_at, held.task_id))

    @property
    def position(self) -> int:
        """Offset from which to go on so that nothing that is held is missed."""
        return min(self._at.values(), default=self._next)
