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
COLUMNS = 6
Testimony = tuple[tuple[str, int], ...]
"""(Miner, column) of each thing that a validation says."""
NOTHING = (0,) * COLUMNS


def testimony(state: ValidationState) -> Testimony:
    """What a validation says."""
    found = []
    if state.status == "decided" and state.planted_sha256 is not None:
        found.append((state.miner_id, HONEYPOTS + (state.solution_sha256 != state.planted_sha256)))
    good = proved(state)
    if good is not None:
        found.append((state.miner_id, WORK + (not good)))
    if good is False:
        votes = {v.voter_id: v.accept for v in state.votes if v.voter_kind == "peer-review"}
        found += [(voter, REVIEWS + accept) for voter, accept in votes.items()]
    return tuple(found)


class Tallies:
    """Sums by miner. A miner of whom nothing is said takes no room."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[int, ...]] = {}

    def add(self, said: Testimony, times: int = 1) -> None:
        """Count it; with -1, no more."""
        for miner, column in said:
            sums = list(self._sums.get(miner, NOTHING))
            sums[column] += times
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
    return Record(sum(s[column] for s in sums), sum(s[column + 1] for s in sums))
