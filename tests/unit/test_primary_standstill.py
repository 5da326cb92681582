"""A follower whose positions stand still while its log moves is found, and no other is."""

from __future__ import annotations

import time

from everlode.errors import Unavailable
from everlode.primary.standstill import STILL_S, Standstill, Turns


class Follower:
    """Its log of two partitions, and a hand on the clock."""

    def __init__(self) -> None:
        self.ends, self.now, self.asked, self.away = [0, 0], 0.0, 0, False
        self.standstill = Standstill(self.ask)

    def ask(self) -> list[int]:
        self.asked += 1
        if self.away:
            raise Unavailable("no broker")
        return list(self.ends)

    def follows(self, seconds: float, *, reads: bool, leads: bool = True) -> bool:
        """Whether it stands still after so many seconds of turns."""
        for _ in range(int(seconds)):
            self.now += 1
            if leads:
                self.ends = [end + 2 for end in self.ends]  # a barrier, and its commit
            self.standstill.look(self.ends if reads else [0, 0], self.now)
        return bool(self.standstill.stands())


def test_follower_that_reads_is_never_asked_about() -> None:
    follower = Follower()
    assert not follower.follows(9 * STILL_S, reads=True)
    assert follower.asked == 0


def test_follower_that_reads_nothing_of_a_log_that_moves_stands_still_until_it_reads() -> None:
    follower = Follower()
    assert not follower.follows(STILL_S, reads=False)
    assert follower.follows(2 * STILL_S, reads=False)
    assert not follower.follows(1, reads=True)


def test_log_that_nobody_writes_makes_nobody_stand_still() -> None:
    follower = Follower()
    follower.follows(5, reads=True)
    assert not follower.follows(9 * STILL_S, reads=True, leads=False)


def test_broker_that_does_not_answer_says_nothing_about_the_follower() -> None:
    follower = Follower()
    follower.away = True
    assert not follower.follows(9 * STILL_S, reads=False)


def test_primary_begins_anew() -> None:
    follower = Follower()
    assert follower.follows(3 * STILL_S, reads=False)
    follower.standstill.moved([0, 0], follower.now)
    assert not follower.follows(STILL_S, reads=False)


def test_turn_that_does_not_end_stands_still_and_none_does_between_two() -> None:
    turns = Turns()
    assert turns.stands() == ""
    with turns:
        assert turns.stands() == ""
        turns._began = time.monotonic() - STILL_S - 2
        assert turns.stands() == "a turn that began 12 s ago"
    assert turns.stands() == ""
