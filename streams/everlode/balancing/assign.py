"""Which miner gets a waiting task, which node manages it, and why nobody does.

Power of two choices (Mitzenmacher, 2001): of two eligible miners drawn by a hash, the less loaded
one for what it is trusted with, then the more trusted, the one that can do less else, the one of
better reputation. Who fails too often is ejected (see `outliers`). Deterministic for one task,
attempt and state. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from hashlib import blake2b
from math import inf
from types import MappingProxyType
from typing import NamedTuple

from everlode.balancing.ejection import PPM
from everlode.balancing.outliers import ALL_TRUSTED, Trust
from everlode.events.states import MinerState, TaskState
from everlode.state.formulas import stake_of

DRAWS = 12
"""Draws before the whole list is looked through."""
MANAGING = ("healthy", "degraded", "rejoining")
"""Statuses of the nodes that are given tasks to manage."""


class Excluded(StrEnum):
    """Why a miner may not take a task now: the first of these, in this order."""

    SUSPENDED = "suspended"
    RETIRED = "retired"
    TYPE = "type"
    """It does not work on tasks of this type."""
    GPUS = "gpus"
    """It has fewer than the task asks for."""
    EJECTED = "ejected"
    """It has failed too often, and gets nothing for a while."""
    FULL = "full"
    """It works on as many tasks as it takes at once, or is given while it warms up."""
    STAKE = "stake"
    """Its free stake does not cover what the task would lock."""


def _draw(seed: str, turn: int, size: int) -> int:
    return int.from_bytes(blake2b(f"{seed}/{turn}".encode(), digest_size=8).digest(), "big") % size


def excluded(
    task: TaskState,
    miner: MinerState,
    running: int,
    promised_micro: int,
    trust: Trust = ALL_TRUSTED,
) -> Excluded | None:
    """Why the miner may not take the task now; None when it may.

    `running` is the number of tasks that it works on, `promised_micro` the part of its free stake
    that these are about to lock. Whether it beats is not asked: a silent miner's lease runs out.
    """
    if miner.status != "active":
        return Excluded(miner.status)
    if task.task_type not in miner.specialties:
        return Excluded.TYPE
    if task.gpus > miner.gpus:
        return Excluded.GPUS
    if miner.key in trust.ejected:
        return Excluded.EJECTED
    if running >= (trust.room(miner) if trust.standings else miner.max_concurrent):
        return Excluded.FULL
    if stake_of(task.base_reward_micro) > max(0, miner.stake_free_micro - promised_micro):
        return Excluded.STAKE
    return None


class Field(NamedTuple):
    """The miners, as a waiting task finds them."""

    excluded: dict[str, tuple[str, ...]]
    """Reason → miners, in the order of `Excluded`; reasons of no miner are left out."""
    fresh: tuple[str, ...]
    """Who may take it, and has not had it."""
    again: tuple[str, ...]
    """Who may take it, and has had it: they come after all the others."""


def field_of(
    task: TaskState,
    miners: Sequence[MinerState],
    running: Mapping[str, int],
    promised_micro: Mapping[str, int],
    trust: Trust = ALL_TRUSTED,
) -> Field:
    """Sort all miners by whether they may take the task; as `choose_miner` would, now."""
    trust = trust_for(task, miners, trust)
    found: dict[str, tuple[str, ...]] = dict.fromkeys(Excluded, ())
    fresh: list[str] = []
    again: list[str] = []
    for miner in miners:
        key = miner.key
        why = excluded(task, miner, running.get(key, 0), promised_micro.get(key, 0), trust)
        if why is not None:
            found[why] += (key,)
        else:
            (again if key in task.miners else fresh).append(key)
    return Field({str(k): v for k, v in found.items() if v}, tuple(fresh), tuple(again))


def trust_for(task: TaskState, miners: Sequence[MinerState], trust: Trust) -> Trust:
    """The trust to choose with: nobody is ejected where all who could ever take the task are.

    Looks for the first who is not, so it is quick but where that matters.
    """

    def fits(miner: MinerState) -> bool:
        named = task.task_type in miner.specialties
        return named and miner.status == "active" and task.gpus <= miner.gpus

    if not trust.ejected or any(m.key not in trust.ejected and fits(m) for m in miners):
        return trust
    return trust.all_out()


def _better(a: MinerState, b: MinerState, running: Mapping[str, int], trust: Trust) -> MinerState:
    weight_a, weight_b = trust.weight_ppm(a.key), trust.weight_ppm(b.key)
    load_a = running.get(a.key, 0) * b.max_concurrent * weight_b
    load_b = running.get(b.key, 0) * a.max_concurrent * weight_a
    if load_a != load_b:
        return a if load_a < load_b else b
    merit_a = weight_a, -len(a.specialties), a.reputation_ppm, a.key
    return a if merit_a >= (weight_b, -len(b.specialties), b.reputation_ppm, b.key) else b


def choose_miner(
    task: TaskState,
    candidates: Sequence[MinerState],
    running: Mapping[str, int],
    promised_micro: Mapping[str, int],
    trust: Trust = ALL_TRUSTED,
) -> MinerState | None:
    """A miner for `task` among `candidates`, or None when none of them fits now.

    Who has had this task comes after all who have not, and then in turn: a miner that fails at
    once is idle at once, and would get every attempt by its low load.
    `running` is the number of tasks that each miner works on, `promised_micro` the free stake
    that its other assignments are about to lock; `trust` is what `trust_for` gives.
    """
    if not candidates:
        return None

    def able(miner: MinerState) -> bool:
        key = miner.key
        promised = promised_micro.get(key, 0)
        return excluded(task, miner, running.get(key, 0), promised, trust) is None

    def unused(miner: MinerState) -> bool:
        return miner.key not in task.miners and able(miner)

    seed = f"{task.key}/{task.attempt}"
    found: list[MinerState] = []
    for turn in range(DRAWS):
        miner = candidates[_draw(seed, turn, len(candidates))]
        if unused(miner) and miner not in found:
            found.append(miner)
            if len(found) == 2:
                return _better(found[0], found[1], running, trust)
    if found:
        return found[0]
    start = _draw(seed, DRAWS, len(candidates))
    others = (candidates[start - n] for n in range(len(candidates)))
    return next(filter(unused, others), None) or next(
        filter(able, _in_turn(task, candidates)), None
    )


def _in_turn(task: TaskState, candidates: Sequence[MinerState]) -> Iterator[MinerState]:
    """The candidates that have had the task, from the one whose turn this attempt is."""
    had = {m.key: m for m in candidates if m.key in task.miners}
    first = task.attempt % max(1, len(task.miners))
    names = task.miners[first:] + task.miners[:first]
    return (had[name] for name in names if name in had)


def choose_manager(
    seed: str,
    loads: Mapping[str, int],
    max_concurrent: int,
    health: Mapping[str, float] = MappingProxyType({}),
) -> str | None:
    """Of two nodes drawn by a hash the less loaded for its health; None when every node is full.

    `loads` is the number of tasks that each managing node manages; `health` 0 to 1, of those below
    1. One of health 0 gets something only when it is drawn twice.
    """
    free = sorted(node for node, load in loads.items() if load < max_concurrent)
    if not free:
        return None
    a, b = free[_draw(seed, 0, len(free))], free[_draw(seed, 1, len(free))]
    if a == b:
        return a

    def loaded(node: str) -> tuple[float, float, str]:
        well = int(PPM * health.get(node, 1.0))
        return (loads[node] * PPM / well if well else inf), -well, node

    return min(a, b, key=loaded)
