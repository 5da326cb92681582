"""Which miners are ejected, by the outcomes that the registry has recorded of them. Pure.

A miner's state has its last 32 outcomes, with the event time of each. So a successor, which folds
the same facts or begins with their snapshot, ejects the same miners at the same event time; nothing
of it is kept anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from everlode.balancing.ejection import PPM, TRUSTED, Standing, out_now, standing_of
from everlode.events.states import MinerState

GOOD = "accepted"


class Trust(NamedTuple):
    """How far miners are trusted at a moment. Who is in no mapping has not failed."""

    now_ms: int = 0
    ejected: frozenset[str] = frozenset()
    standings: Mapping[str, Standing] = {}
    shares_ppm: Mapping[str, int] = {}
    """Miner → the share of its last outcomes that were good."""

    def room(self, miner: MinerState) -> int:
        """How many tasks it is given at once: fewer while it warms up, at least one."""
        standing = self.standings.get(miner.key)
        if standing is None:
            return miner.max_concurrent
        return max(1, miner.max_concurrent * standing.warm_ppm(self.now_ms) // PPM)

    def weight_ppm(self, key: str) -> int:
        """By which its load is divided: what it is trusted with, in millionths, above 0."""
        share = self.shares_ppm.get(key)
        if share is None:
            return PPM
        return max(1, share * self.standings.get(key, TRUSTED).warm_ppm(self.now_ms) // PPM)

    def all_out(self) -> Trust:
        """The same, with nobody ejected: for work that nobody else could do."""
        return self._replace(ejected=frozenset())


ALL_TRUSTED = Trust()


class Outliers:
    """Keeps what lowers the trust in miners; those that never failed cost nothing."""

    def __init__(self) -> None:
        self._standings: dict[str, Standing] = {}
        self._shares_ppm: dict[str, int] = {}

    def worked(self, miner: MinerState) -> None:
        """A miner that was observed has one more outcome; a good one's good one costs nothing."""
        if miner.key in self._shares_ppm or miner.recent[-1].outcome != GOOD:
            self.observe(miner)

    def observe(self, miner: MinerState) -> None:
        """A miner as it is now. Costs what its state keeps of its outcomes."""
        key, recent = miner.key, miner.recent
        good = sum(1 for p in recent if p.outcome == GOOD)
        self._standings.pop(key, None)
        self._shares_ppm.pop(key, None)
        if good == len(recent):
            return
        self._shares_ppm[key] = PPM * (good + 1) // (len(recent) + 1)
        standing = standing_of((_ms(p.at), p.outcome == GOOD) for p in recent)
        if standing.until_ms is not None:
            self._standings[key] = standing

    def at(self, now: datetime, miners: int) -> Trust:
        """The trust at an event time, among so many active miners."""
        now_ms = _ms(now)
        out = out_now(self._standings, now_ms, miners)
        return Trust(now_ms, out, self._standings, self._shares_ppm)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
