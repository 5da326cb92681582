"""The active miners by the types of task that they take: all, and those that have room.

A choice draws among those with room only, so what it costs does not grow with how many there are,
nor with how many are full. Changing one miner costs the types that it takes. Pure.

Invariants: who has room stands in `open` of each of its types once; the order says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from everlode.events.states import MinerState


class Listed:
    """Miners in no order; one is put in or out, or drawn by its place, in constant time."""

    def __init__(self) -> None:
        self.miners: list[MinerState] = []
        self._at: dict[str, int] = {}

    def put(self, miner: MinerState) -> None:
        """Put it in, or in the place of what it was."""
        at = self._at.setdefault(miner.key, len(self.miners))
        if at == len(self.miners):
            self.miners.append(miner)
        else:
            self.miners[at] = miner

    def renew(self, miner: MinerState) -> None:
        """In the place of what it was, if that is there."""
        at = self._at.get(miner.key)
        if at is not None:
            self.miners[at] = miner

    def drop(self, key: str) -> None:
        """Take it out, if it is there: the last one takes its place."""
        at = self._at.pop(key, None)
        if at is None:
            return
        last = self.miners.pop()
        if last.key != key:
            self.miners[at] = last
            self._at[last.key] = at


def _offer(miner: MinerState) -> tuple[tuple[str, ...], int, int]:
    return miner.specialties, miner.gpus, miner.max_concurrent


class Roster:
    """Keeps the lists. `running`: miner → tasks that it works on; its owner keeps that."""

    def __init__(self, running: Mapping[str, int]) -> None:
        self._running = running
        self._miners: dict[str, MinerState] = {}
        self._all: dict[str, Listed] = {}
        self._open: dict[str, Listed] = {}
        self._most_gpus: dict[str, int] = {}

    def __len__(self) -> int:
        """Active miners."""
        return len(self._miners)

    def put(self, miner: MinerState) -> None:
        """A miner as it is now, active or not."""
        old = self._miners.get(miner.key)
        active = miner.status == "active"
        if old is not None and active and _offer(old) == _offer(miner):
            self._miners[miner.key] = miner
            for name in miner.specialties:
                self._all[name].renew(miner)
                self._open[name].renew(miner)
            return
        if old is not None:
            self._drop(old)
        if not active:
            return
        self._miners[miner.key] = miner
        for name in miner.specialties:
            self._all.setdefault(name, Listed()).put(miner)
            self._most_gpus[name] = max(self._most_gpus.get(name, -1), miner.gpus)
        self.moved(miner.key)

    def _drop(self, miner: MinerState) -> None:
        del self._miners[miner.key]
        for name in miner.specialties:
            self._all[name].drop(miner.key)
            self._open[name].drop(miner.key)
            if miner.gpus == self._most_gpus[name]:
                others = self._all[name].miners
                self._most_gpus[name] = max((other.gpus for other in others), default=-1)

    def moved(self, key: str) -> None:
        """What the miner works on has changed."""
        miner = self._miners.get(key)
        if miner is None:
            return
        roomy = self._running.get(key, 0) < miner.max_concurrent
        for name in miner.specialties:
            found = self._open.setdefault(name, Listed())
            if roomy:
                found.put(miner)
            else:
                found.drop(key)

    def of(self, task_type: str) -> list[MinerState]:
        """All active miners that take the type."""
        found = self._all.get(task_type)
        return found.miners if found else []

    def open(self, task_type: str) -> list[MinerState]:
        """Those of them that work on fewer tasks than they take."""
        found = self._open.get(task_type)
        return found.miners if found else []

    def most_gpus(self, task_type: str) -> int:
        """The most GPUs that a miner has who takes the type; -1: nobody does."""
        return self._most_gpus.get(task_type, -1)
