"""What is special about task managers: assignments and leases, which need time and balance."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from everlode.balancing.assign import MANAGING, choose_miner
from everlode.balancing.outliers import Outliers
from everlode.control.fold import ControlState
from everlode.errors import IntegrityError
from everlode.events.base import Fact
from everlode.events.commands import AssignTask, ExpireLease, ExpireTask
from everlode.events.ids import own_id
from everlode.events.miners import MinerRegistered, MinerUpdated, PerformanceRecorded
from everlode.events.states import MinerState, State, TaskState
from everlode.health.weights import STATUS
from everlode.membership.agent import Load
from everlode.primary.component import Component, Owed
from everlode.snapshots.read import Alive
from everlode.state.dispatch import evolve
from everlode.state.formulas import stake_of
from everlode.tasks.roster import Roster
from everlode.tasks.timers import Timers
from everlode.tasks.turn import Managers, Turn
from everlode.topics import Topology

INSTANT = timedelta(milliseconds=1)
"""A lease is good at its end, and over right after it."""
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
        self._leases = Timers()
        """When the leases of tasks under way are over."""
        self._deadlines = Timers()
        """When tasks that wait are past their deadline."""
        self.by_miner: Counter[str] = Counter()
        self.by_manager: Counter[str] = Counter()
        self._miners: dict[str, MinerState] = {}
        self._outliers = Outliers()
        self._roster = Roster(self.by_miner)
        self._stale = True
        super().__init__(home, topology)

    # -- indexes -----------------------------------------------------------------------------

    def changed(self, old: State | None, new: State | None) -> None:
        """See Component."""
        if isinstance(old, TaskState):
            if old.status == "assigned":
                self._works(old.miner_id or "", -1)
                self.by_manager[old.manager_node or ""] -= 1
                self._running.pop(old.key, None)
                self._leases.drop(old.key)
            elif old.status == "submitted":
                self._waiting.pop(old.key, None)
                self._stuck.pop(old.key, None)
                self._deadlines.drop(old.key)
        if isinstance(new, TaskState):
            if new.status == "assigned":
                self._works(new.miner_id or "", 1)
                self.by_manager[new.manager_node or ""] += 1
                self._running[new.key] = new
                if new.lease_until is not None:
                    self._leases.set(new.key, new.lease_until + INSTANT)
            elif new.status == "submitted":
                self._waiting[new.key] = None
                self._deadlines.set(new.key, new.deadline_at)

    def _works(self, miner: str, change: int) -> None:
        self.by_miner[miner] += change
        self._roster.moved(miner)

    def restore_seen(self, alive: Alive) -> None:
        """See Component."""
        if isinstance(alive.state, MinerState):
            self._miners[alive.state.key] = alive.state
            self._roster.put(alive.state)
            self._outliers.observe(alive.state)
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
            if isinstance(fact.data, PerformanceRecorded):
                self._outliers.worked(new)
            offer = (MinerRegistered, MinerUpdated)
            if isinstance(fact.data, offer) or old is None or old.status != new.status:
                self._stale = True
            self._roster.put(new)

    def _wake(self) -> None:
        """What nobody could ever take waits again, once others offer: before what came after."""
        if self._stale:
            self._stale = False
            if self._stuck:
                self._waiting, self._stuck = self._stuck | self._waiting, {}

    # -- what is due -------------------------------------------------------------------------

    def due(self, now: datetime, control: ControlState) -> Iterable[Owed]:
        """Assignments of waiting tasks, oldest first."""
        self._wake()
        nodes = control.nodes_of(self.home, "task-manager")
        working = [n for n in nodes if n.status in MANAGING]
        able = {n.node_id: STATUS[n.status] for n in working} or {self._node_id: 1.0}
        special = {n.node_id: n.specialties for n in working} or {self._node_id: ()}
        managers = Managers({node: self.by_manager[node] for node in able}, able, special)
        trust = self._outliers.at(now, len(self._roster))
        turn = Turn(Counter(self.by_miner), self._promised(), managers, trust)
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
        if task.gpus > self._roster.most_gpus(task.task_type):
            self._waiting.pop(task.key, None)  # no miner can ever take it, as they are now
            self._stuck[task.key] = None
            return None
        at = max(now, task.submitted_at)
        if at >= task.deadline_at:
            return None
        candidates = self._roster.open(task.task_type)
        trust = turn.trust(task, self._roster.of(task.task_type))
        miner = choose_miner(task, candidates, turn.running, turn.promised, trust)
        if miner is None:
            turn.nobody_for(task, candidates, trust)
            return None
        manager = turn.managers.choose(task.key, task.task_type, self._max)
        if manager is None:
            return None
        turn.take(task, miner.key, manager)
        command = AssignTask(
            miner_id=miner.key,
            manager_node=manager,
            lease_until=min(at + self._lease, task.deadline_at),
        )
        name = own_id("assign", task.key, str(task.version))
        return Owed(name, task.key, command, at, rule="assign")

    # -- what is over ------------------------------------------------------------------------

    def next_end(self) -> datetime | None:
        """See Component: of a lease, or of a task that waits."""
        return min(filter(None, (self._leases.first(), self._deadlines.first())), default=None)

    def over(self, horizon: datetime) -> Iterable[Owed]:
        """See Component: leases that have run out, and tasks that wait past their deadline.

        Id and event time come from the state, so they are the same whoever leads.
        """
        for key in self._leases.passed(horizon):
            task = self._served(key)
            if task is not None and task.lease_until is not None:
                name = own_id("expire", key, str(task.version))
                command = ExpireLease(attempt=task.attempt)
                at = task.lease_until + INSTANT
                yield Owed(name, key, command, at, rule="expire")
        for key in self._deadlines.passed(horizon):
            task = self._served(key)
            if task is not None:
                name = own_id("overdue", key, str(task.version))
                at = max(task.deadline_at, task.solved_at or task.deadline_at)
                yield Owed(name, key, ExpireTask(), at, rule="overdue")

    def _served(self, key: str) -> TaskState | None:
        task = self.folds.get("tasks", key)
        return task if isinstance(task, TaskState) and task.home in self.served else None

    def load(self) -> Load:
        """See Component: the tasks that this node manages."""
        return Load(
            current_tasks=self.by_manager[self._node_id],
            work_done=self.folds.folded,
            queue_size=len(self._waiting),
        )
