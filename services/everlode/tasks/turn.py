"""The assignments of one turn of a task primary: what is given away, what nobody can take.

Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from everlode.balancing.assign import choose_manager, trust_for
from everlode.balancing.outliers import Trust
from everlode.balancing.specialties import Specialties, by_specialty
from everlode.events.states import MinerState, TaskState
from everlode.state.formulas import stake_of


class Managers:
    """The nodes that manage tasks, as they are in one turn."""

    def __init__(
        self, managed: dict[str, int], able: Mapping[str, float], specialties: Specialties
    ) -> None:
        """`able`: node → its health; `managed`: the tasks that it has."""
        self.managed, self._able, self._specialties = managed, able, specialties
        self._suited: dict[str, list[tuple[str, ...]]] = {}
        """Type of task → the nodes for it, the most fitting ones first."""

    def choose(self, seed: str, task_type: str, max_concurrent: int) -> str | None:
        """See `choose_manager`: of the most fitting ones of which one has room."""
        suited = self._suited.get(task_type)
        if suited is None:
            suited = self._suited[task_type] = [*by_specialty(task_type, self._specialties)]
        for nodes in suited:
            loads = {node: self.managed[node] for node in nodes}
            chosen = choose_manager(seed, loads, max_concurrent, self._able)
            if chosen is not None:
                return chosen
        return None


class Turn:
    """Assignments of one turn: what each miner and manager has by now, and what nobody can take."""

    def __init__(
        self,
        running: Counter[str],
        promised: Counter[str],
        managers: Managers,
        trust: Trust,
    ) -> None:
        self.running, self.promised, self.managers = running, promised, managers
        self._trust = trust
        self._trusts: dict[tuple[str, int], Trust] = {}
        """(type, GPUs) → the trust to choose with."""
        self._full: dict[tuple[str, int], int] = {}
        """(type, GPUs) → the least stake for which no miner is free now."""

    def trust(self, task: TaskState, miners: Sequence[MinerState]) -> Trust:
        """See `trust_for`; asked once a turn for tasks that ask for no more."""
        if not self._trust.ejected:
            return self._trust
        asked = task.task_type, task.gpus
        if asked not in self._trusts:
            self._trusts[asked] = trust_for(task, miners, self._trust)
        return self._trusts[asked]

    def is_full(self, task: TaskState) -> bool:
        """True when no miner was free for a task that asks for no more."""
        least = self._full.get((task.task_type, task.gpus))
        return least is not None and stake_of(task.base_reward_micro) >= least

    def nobody_for(self, task: TaskState, candidates: Sequence[MinerState], trust: Trust) -> None:
        """No miner is free for this task: nor for any that locks more than the most that is free.

        What is free only shrinks within a turn, so no such task is looked for again in it.
        """
        free = (
            miner.stake_free_micro - self.promised[miner.key]
            for miner in candidates
            if miner.gpus >= task.gpus
            and miner.key not in trust.ejected
            and self.running[miner.key] < trust.room(miner)
        )
        self._full[task.task_type, task.gpus] = max(0, 1 + max(free, default=-1))

    def take(self, task: TaskState, miner: str, manager: str) -> None:
        """The task goes to them."""
        self.running[miner] += 1
        self.promised[miner] += stake_of(task.base_reward_micro)
        self.managers.managed[manager] += 1
