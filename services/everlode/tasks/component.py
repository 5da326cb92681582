"""What is special about task managers: assignments and leases, which need time and balance."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from uuid import uuid5

from everlode.balancing.assign import MANAGING, choose_manager, choose_miner
from everlode.control.fold import ControlState
from everlode.errors import IntegrityError
from everlode.events.base import Fact
from everlode.events.commands import AssignTask, ExpireLease, ExpireTask
from everlode.events.miners import MinerRegistered, MinerUpdated
from everlode.events.states import MinerState, State, TaskState
from everlode.membership.agent import Load
from everlode.primary.component import Component, Owed
from everlode.snapshots.read import Alive
from everlode.state.dispatch import evolve
from everlode.state.formulas import stake_of
from everlode.state.reactions import NAMESPACE
from everlode.tasks.turn import Turn
from everlode.topics import Topology

SLACK = 1_000
"""Deadlines of tasks that wait no more, beside as many as still wait."""
ASSIGN_MOST = 400
"""Assignments in one turn."""
LOOK_MOST = 1_000
"""Waiting tasks that one turn looks at; the next one goes on behind them."""


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
        self._round: deque[str] = deque()
        """Waiting tasks that this round has not come to; then the next round begins."""
        self._stuck: dict[str, None] = {}
        self._running: dict[str, TaskState] = {}
        self._deadlines: list[tuple[datetime, str]] = []
        self._overdue: dict[str, None] = {}
        self.by_miner: Counter[str] = Counter()
        self.by_manager: Counter[str] = Counter()
        self._miners: dict[str, MinerState] = {}
        self._by_type: dict[str, list[MinerState]] = {}
        self._places: dict[str, list[tuple[list[MinerState], int]]] = {}
        """Where each miner stands in these lists."""
        self._most_gpus: dict[str, int] = {}
        """Task type → the most GPUs that a miner has who takes it."""
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
                self._overdue.pop(old.key, None)
        if isinstance(new, TaskState):
            if new.status == "assigned":
                self.by_miner[new.miner_id or ""] += 1
                self.by_manager[new.manager_node or ""] += 1
                self._running[new.key] = new
            elif new.status == "submitted":
                self._waiting[new.key] = None
                heappush(self._deadlines, (new.deadline_at, new.key))

    def restore_seen(self, alive: Alive) -> None:
        """See Component."""
        if isinstance(alive.state, MinerState):
            self._miners[alive.state.key] = alive.state
            self._stale = True

    def observe(self, fact: Fact) -> None:
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
            for candidates, place in self._places.get(key, ()):
                candidates[place] = new

    def _list_candidates(self) -> None:
        """List the miners anew when other ones offer; what nobody could take waits again."""
        if not self._stale:
            return
        self._stale = False
        self._by_type, self._places, self._most_gpus = {}, {}, {}
        for miner in self._miners.values():
            if miner.status == "active":
                for name in miner.specialties:
                    candidates = self._by_type.setdefault(name, [])
                    place = (candidates, len(candidates))
                    self._places.setdefault(miner.key, []).append(place)
                    candidates.append(miner)
                    most = self._most_gpus.get(name, -1)
                    self._most_gpus[name] = max(most, miner.gpus)
        self._waiting.update(self._stuck)
        self._stuck.clear()

    # -- what is due -------------------------------------------------------------------------

    def due(self, now: datetime, control: ControlState) -> Iterable[Owed]:
        """Assignments of waiting tasks, oldest first, and ends of leases and tasks by time."""
        yield from self._expired(now)
        yield from self._past_deadline(now)
        self._list_candidates()
        healthy = {
            n.node_id: self.by_manager[n.node_id]
            for n in control.nodes_of(self.home, "task-manager")
            if n.status in MANAGING
        } or {self._node_id: self.by_manager[self._node_id]}
        turn = Turn(Counter(self.by_miner), self._promised(), healthy)
        count = 0
        for key in self._next_waiting():
            if count >= ASSIGN_MOST:
                self._round.appendleft(key)
                break
            task = self.folds.get("tasks", key)
            if not isinstance(task, TaskState) or task.home not in self.served:
                continue
            if turn.is_full(task):
                continue
            owed = self._assignment(task, now, turn)
            if owed is not None:
                count += 1
                yield owed

    def _next_waiting(self) -> Iterator[str]:
        """The waiting tasks of one turn: from where the last one stopped, oldest first.

        One task is looked at once a turn, and all of them in as many turns as that takes.
        """
        if not self._round:
            self._round.extend(self._waiting)
        for _ in range(min(LOOK_MOST, len(self._round))):
            key = self._round.popleft()
            if key in self._waiting:
                yield key

    def _promised(self) -> Counter[str]:
        """Miner → stake of its assignments that its registry has not locked yet."""
        promised: Counter[str] = Counter()
        for task in self._running.values():
            miner = self._miners.get(task.miner_id or "")
            if miner is not None and task.key not in miner.locks:
                promised[miner.key] += stake_of(task.base_reward_micro)
        return promised

    def _assignment(self, task: TaskState, now: datetime, turn: Turn) -> Owed | None:
        candidates = self._by_type.get(task.task_type, [])
        if task.gpus > self._most_gpus.get(task.task_type, -1):
            self._waiting.pop(task.key, None)  # no miner can ever take it, as they are now
            self._stuck[task.key] = None
            return None
        at = max(now, task.submitted_at)
        if at >= task.deadline_at:
            return None
        miner = choose_miner(task, candidates, turn.running, turn.promised)
        if miner is None:
            turn.nobody_for(task, candidates)
            return None
        manager = choose_manager(task.key, turn.managed, self._max)
        if manager is None:
            return None
        turn.take(task, miner.key, manager)
        command = AssignTask(
            miner_id=miner.key,
            manager_node=manager,
            lease_until=min(at + self._lease, task.deadline_at),
        )
        name = f"assign/{task.key}/{task.version}"
        return Owed(str(uuid5(NAMESPACE, name)), task.key, command, at)

    def _expired(self, now: datetime) -> Iterable[Owed]:
        for task in list(self._running.values()):
            if task.home not in self.served:
                continue
            if task.lease_until is not None and task.lease_until < now:
                name = f"expire/{task.key}/{task.version}"
                yield Owed(
                    str(uuid5(NAMESPACE, name)), task.key, ExpireLease(attempt=task.attempt), now
                )

    def _past_deadline(self, now: datetime) -> Iterable[Owed]:
        """Ends of tasks that still wait at their deadline.

        Id and event time come from the state, so they are the same whoever leads.
        """
        if len(self._deadlines) > 2 * (len(self._waiting) + len(self._stuck)) + SLACK:
            self._deadlines = [
                (task.deadline_at, key)
                for key in (*self._waiting, *self._stuck)
                if isinstance(task := self.folds.get("tasks", key), TaskState)
            ]
            heapify(self._deadlines)  # without those that wait no more
        while self._deadlines and self._deadlines[0][0] <= now:
            _, key = heappop(self._deadlines)
            if key in self._waiting or key in self._stuck:
                self._overdue[key] = None
        for key in list(self._overdue):
            task = self.folds.get("tasks", key)
            if isinstance(task, TaskState) and task.home in self.served:
                name = f"overdue/{key}/{task.version}"
                at = max(task.deadline_at, task.solved_at or task.deadline_at)
                yield Owed(str(uuid5(NAMESPACE, name)), key, ExpireTask(), at)

    def load(self) -> Load:
        """See Component: the tasks that this node manages."""
        return Load(
            current_tasks=self.by_manager[self._node_id],
            work_done=self.folds.folded,
            queue_size=len(self._waiting),
        )
