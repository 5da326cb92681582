"""What is special about task managers: assignments and leases, which need time and balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import uuid5

from everlode.balancing.assign import choose_manager, choose_miner
from everlode.control.fold import ControlState
from everlode.errors import IntegrityError
from everlode.events.base import Fact
from everlode.events.commands import AssignTask, ExpireLease
from everlode.events.miners import MinerRegistered, MinerUpdated
from everlode.events.states import MinerState, State, TaskState
from everlode.primary.component import Component, Owed
from everlode.sdk.agent import Load
from everlode.state.dispatch import evolve
from everlode.state.reactions import NAMESPACE
from everlode.topics import Topology

ASSIGN_MOST = 400
"""Assignments in one turn."""


class TaskComponent(Component):
    """Tasks of one home region."""

    name = "tasks"
    states = ("tasks",)
    causes = ("validations", "rewards")
    sees = ("miners",)

    def __init__(
        self, home: str, topology: Topology, node_id: str, lease: timedelta, max_concurrent: int
    ) -> None:
        self._node_id = node_id
        self._lease = lease
        self._max = max_concurrent
        self._waiting: dict[str, None] = {}
        self._stuck: dict[str, None] = {}
        self._running: dict[str, TaskState] = {}
        self.by_miner: Counter[str] = Counter()
        self.by_manager: Counter[str] = Counter()
        self._miners: dict[str, MinerState] = {}
        self._by_type: dict[str, list[MinerState]] = {}
        self._stale = True
        super().__init__(home, topology)

    # -- indexes -----------------------------------------------------------------------------

    def changed(self, old: State | None, new: State | None) -> None:
        """See Component."""
        if isinstance(old, TaskState):
            if old.status == "assigned":
                self.by_miner[old.miner_id or ""] -= 1
                self.by_manager[old.manager_node or ""] -= 1
                self._running.pop(old.key, None)
            elif old.status == "submitted":
                self._waiting.pop(old.key, None)
                self._stuck.pop(old.key, None)
        if isinstance(new, TaskState):
            if new.status == "assigned":
                self.by_miner[new.miner_id or ""] += 1
                self.by_manager[new.manager_node or ""] += 1
                self._running[new.key] = new
            elif new.status == "submitted":
                self._waiting[new.key] = None

    def saw(self, fact: Fact) -> None:
        """See Component."""
        key = fact.envelope.aggregate_id
        old = self._miners.get(key)
        if fact.envelope.version <= (old.version if old else 0):
            return
        try:
            new = evolve("miners", old, fact, 0)
        except IntegrityError:
            return  # the registry's own fold stops such a key
        if isinstance(new, MinerState):
            self._miners[key] = new
            offer = (MinerRegistered, MinerUpdated)
            if isinstance(fact.data, offer) or old is None or old.status != new.status:
                self._stale = True

    def _candidates(self, task_type: str) -> list[MinerState]:
        if self._stale:
            self._stale = False
            self._by_type = {}
            for miner in self._miners.values():
                if miner.status == "active":
                    for name in miner.specialties:
                        self._by_type.setdefault(name, []).append(miner)
            self._waiting.update(self._stuck)
            self._stuck.clear()
        return self._by_type.get(task_type, [])

    # -- what is due -------------------------------------------------------------------------

    def due(self, now: datetime, control: ControlState) -> Iterable[Owed]:
        """Assignments of waiting tasks, oldest first, and ends of leases that ran out."""
        yield from self._expired(now)
        healthy = {
            n.node_id: self.by_manager[n.node_id]
            for n in control.nodes_of(self.home, "task-manager")
            if n.status in ("healthy", "degraded", "rejoining")
        } or {self._node_id: self.by_manager[self._node_id]}
        running = Counter(self.by_miner)
        count = 0
        full: set[tuple[str, int]] = set()
        for key in list(self._waiting):
            if count >= ASSIGN_MOST:
                break
            task = self.folds.get("tasks", key)
            if not isinstance(task, TaskState) or (task.task_type, task.gpus) in full:
                continue
            owed = self._assignment(task, now, running, healthy, full)
            if owed is not None:
                count += 1
                yield owed

    def _assignment(
        self,
        task: TaskState,
        now: datetime,
        running: Counter[str],
        healthy: dict[str, int],
        full: set[tuple[str, int]],
    ) -> Owed | None:
        """`full` gets the kinds of task for which no miner is free now."""
        candidates = self._candidates(task.task_type)
        if all(task.gpus > m.gpus for m in candidates):
            self._waiting.pop(task.key, None)  # no miner can ever take it, as they are now
            self._stuck[task.key] = None
            return None
        at = max(now, task.submitted_at)
        if at >= task.deadline_at:
            return None
        miner = choose_miner(task, candidates, running)
        if miner is None:
            full.add((task.task_type, task.gpus))
            return None
        manager = choose_manager(task.key, healthy, self._max)
        if manager is None:
            return None
        running[miner.key] += 1
        healthy[manager] += 1
        command = AssignTask(
            miner_id=miner.key,
            manager_node=manager,
            lease_until=min(at + self._lease, task.deadline_at),
        )
        name = f"assign/{task.key}/{task.version}"
        return Owed(str(uuid5(NAMESPACE, name)), task.key, command, at)

    def _expired(self, now: datetime) -> Iterable[Owed]:
        for task in list(self._running.values()):
            if task.lease_until is not None and task.lease_until < now:
                name = f"expire/{task.key}/{task.version}"
                yield Owed(
                    str(uuid5(NAMESPACE, name)), task.key, ExpireLease(attempt=task.attempt), now
                )

    def load(self) -> Load:
        """See Component: the tasks that this node manages."""
        return Load(
            current_tasks=self.by_manager[self._node_id],
            work_done=self.folds.folded,
            queue_size=len(self._waiting),
        )
