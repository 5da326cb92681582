"""How far a log reached: by all that does not come from it."""

from __future__ import annotations

import pytest

from everlode.events.stamp import stamp_at
from everlode.recovery.reach import (
    ANSWERS,
    CUT,
    LAG_MS,
    Reach,
    furthest,
    is_short,
    of_generation,
    of_region,
    reach,
)
from everlode.topics.place import End

OWN, OTHER = ("eu.1.tasks", 0), ("us.1.tasks", 0)
US, AP = of_region("us"), of_region("ap")


def at(seq: int, ms: int = 0) -> End:
    return End(seq, stamp_at(ms or seq * 10))


def test_log_that_reaches_all_that_is_known_is_whole() -> None:
    ends = {CUT: at(5), US: at(7), AP: at(9), ANSWERS: at(9), of_generation(1): at(8)}
    assert reach(OWN, "eu", at(9), at(9), ends) == Reach()
    assert reach(OWN, "eu", at(12), at(12), ends) == Reach()


@pytest.mark.parametrize("source", [CUT, ANSWERS, of_generation(1), US])
def test_own_log_that_ends_before_what_any_other_knows_is_short(source: str) -> None:
    assert is_short(OWN, "eu", at(8), {CUT: at(1), source: at(9)})
    assert not is_short(OWN, "eu", at(9), {CUT: at(1), source: at(9)})


def test_what_is_behind_a_short_log_is_fetched_lost_by_name_or_unknown() -> None:
    ends = {CUT: at(7), US: at(9), ANSWERS: at(10)}
    assert reach(OWN, "eu", at(5), at(9), ends) == Reach(True, 1, 10, 10)
    assert reach(OWN, "eu", at(5), at(10), ends) == Reach(True, 0, 0, 10)
    assert reach(OWN, "eu", at(0), at(7), {CUT: at(7)}) == Reach(True, 0, 0, 7)


def test_copy_behind_its_source_for_a_moment_is_on_its_way() -> None:
    assert not is_short(OTHER, "eu", at(8), {CUT: at(5), US: at(20)})


def test_copy_that_has_stopped_or_lost_its_end_is_short_and_its_source_knows_all() -> None:
    stopped = {CUT: at(5), US: at(20, 80 + LAG_MS + 1)}
    assert reach(OTHER, "eu", at(8), at(20, 80 + LAG_MS + 1), stopped) == Reach(True)
    emptied = {CUT: at(5), US: at(6)}
    assert reach(OTHER, "eu", End(), at(6), emptied) == Reach(True)


def test_copy_that_lost_its_end_is_unknown_without_its_source() -> None:
    emptied = {CUT: at(5), AP: at(6)}
    assert reach(OTHER, "eu", End(), at(6), emptied) == Reach(True, 0, 0, 6)
    late = {CUT: at(5), AP: at(9, 60 + LAG_MS)}
    assert reach(OTHER, "eu", at(5), at(9), late) == Reach(True)


def test_furthest_of_nothing_is_nothing() -> None:
    assert furthest({}) == End()
