"""What validations say of miners, in numbers: their records, by which the fraud rules weigh them.

Each validation testifies by its state alone: of its solver's answer to a honeypot, of its solver's
work once it is proved, of those who voted on what an expert found bad. Sums are all that the rules
need, so what a validation said stays when it has left the memory:

    v-1: a solved it, b and c voted for it, an expert found it bad    (a, work wrong)
                                                                      (b, reviews wrong)
                                                                      (c, reviews wrong)

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from everlode.events.states import ValidationState
from everlode.state.auditing import proved
from everlode.state.fraudrules import Record

HONEYPOTS, WORK, REVIEWS = 0, 2, 4
"""Columns of what was right; those of what was wrong are the next ones."""
WORTH = {WORK: 6, REVIEWS: 7}
"""Columns of the base rewards of what was wrong, in millionths of a credit."""
COLUMNS = 8
Testimony = tuple[tuple[str, int, int], ...]
"""(Miner, column, how much) of each thing that a validation says."""
NOTHING = (0,) * COLUMNS


def testimony(state: ValidationState) -> Testimony:
    """What a validation says."""
    found: list[tuple[str, int, int]] = []
    if state.status == "decided" and state.planted_sha256 is not None:
        right = state.solution_sha256 == state.planted_sha256 or state.accepted is True
        found.append((state.miner_id, HONEYPOTS + (not right), 1))
    good = proved(state)
    if good is not None:
        found += _entry(state.miner_id, WORK, good, state.base_reward_micro)
    if good is False:
        votes = {v.voter_id: v.accept for v in state.votes if v.voter_kind == "peer-review"}
        for voter, accept in votes.items():
            found += _entry(voter, REVIEWS, not accept, state.base_reward_micro)
    return tuple(found)


def _entry(miner: str, column: int, right: bool, worth_micro: int) -> Testimony:
    """An entry of a record: what was wrong has its worth."""
    if right:
        return ((miner, column, 1),)
    return ((miner, column + 1, 1), (miner, WORTH[column], worth_micro))


class Tallies:
    """Sums by miner. A miner of whom nothing is said takes no room."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[int, ...]] = {}

    def add(self, said: Testimony, times: int = 1) -> None:
        """Count it; with -1, no more."""
        for miner, column, count in said:
            sums = list(self._sums.get(miner, NOTHING))
            sums[column] += times * count
            self.put(miner, sums)

    def put(self, miner: str, sums: Iterable[int]) -> None:
        """Set a miner's sums."""
        new = tuple(sums)
        if any(new):
            self._sums[miner] = new
        else:
            self._sums.pop(miner, None)

    def of(self, miner: str) -> tuple[int, ...]:
        """A miner's sums, by column."""
        return self._sums.get(miner, NOTHING)

    def miners(self) -> list[str]:
        """Those of whom something is said."""
        return list(self._sums)


def record(column: int, *sums: tuple[int, ...]) -> Record:
    """The record in one column, over several sums."""
    columns = (column, column + 1, *([WORTH[column]] if column in WORTH else []))
    return Record(*(sum(s[each] for s in sums) for each in columns))
