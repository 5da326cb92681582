"""Which miner gets a waiting task, and which node manages it.

Power of two choices (Mitzenmacher, 2001): of two eligible miners drawn by a hash, the less loaded
one, then the one of better reputation. Deterministic for one task, attempt and state. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b

from everlode.events.states import MinerState, TaskState
from everlode.state.formulas import stake_of

DRAWS = 12
"""Draws before the whole list is looked through."""


def _draw(seed: str, turn: int, size: int) -> int:
    return int.from_bytes(blake2b(f"{seed}/{turn}".encode(), digest_size=8).digest(), "big") % size


def fits(task: TaskState, miner: MinerState, running: int, promised_micro: int) -> bool:
    """True when the miner may take the task now.

    `promised_micro` is the part of its free stake that other assignments are about to lock.
    """
    return (
        miner.status == "active"
        and task.task_type in miner.specialties
        and task.gpus <= miner.gpus
        and running < miner.max_concurrent
        and stake_of(task.base_reward_micro) <= max(0, miner.stake_free_micro - promised_micro)
    )


def _better(a: MinerState, b: MinerState, running: Mapping[str, int]) -> MinerState:
    load_a = running.get(a.key, 0) * b.max_concurrent
    load_b = running.get(b.key, 0) * a.max_concurrent
    if load_a != load_b:
        return a if load_a < load_b else b
    return a if (a.reputation_ppm, a.key) >= (b.reputation_ppm, b.key) else b


def choose_miner(
    task: TaskState,
    candidates: Sequence[MinerState],
    running: Mapping[str, int],
    promised_micro: Mapping[str, int],
) -> MinerState | None:
    """A miner for `task` among `candidates`, or None when none of them fits now.

    Who has had this task comes after all who have not, and then in turn: a miner that fails at
    once is idle at once, and would get every attempt by its low load.
    `running` is the number of tasks that each miner works on, `promised_micro` the free stake
    that its other assignments are about to lock.
    """
    if not candidates:
        return None

    def able(miner: MinerState) -> bool:
        return fits(task, miner, running.get(miner.key, 0), promised_micro.get(miner.key, 0))

    def unused(miner: MinerState) -> bool:
        return miner.key not in task.miners and able(miner)

    seed = f"{task.key}/{task.attempt}"
    found: list[MinerState] = []
    for turn in range(DRAWS):
        miner = candidates[_draw(seed, turn, len(candidates))]
        if unused(miner) and miner not in found:
            found.append(miner)
            if len(found) == 2:
                return _better(found[0], found[1], running)
    if found:
        return found[0]
    return next(filter(unused, candidates), None) or next(
        filter(able, _in_turn(task, candidates)), None
    )


def _in_turn(task: TaskState, candidates: Sequence[MinerState]) -> Iterator[MinerState]:
    """The candidates that have had the task, from the one whose turn this attempt is."""
    had = {m.key: m for m in candidates if m.key in task.miners}
    first = task.attempt % max(1, len(task.miners))
    names = task.miners[first:] + task.miners[:first]
    return (had[name] for name in names if name in had)


def choose_manager(seed: str, loads: Mapping[str, int], max_concurrent: int) -> str | None:
    """Of two nodes drawn by a hash the less loaded; None when every node is full.

    `loads` is the number of tasks that each healthy node manages.
    """
    free = sorted(node for node, load in loads.items() if load < max_concurrent)
    if not free:
        return None
    a, b = free[_draw(seed, 0, len(free))], free[_draw(seed, 1, len(free))]
    return min((loads[a], a), (loads[b], b))[1]
