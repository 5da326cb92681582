"""Whose clock is right: one of three is outvoted, a region of three too, and of two nobody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.control.clocks import KEPT_MS, Clocks, judged
from everlode.events.stamp import MAX_AHEAD_MS

HOUR = 3_600_000
NOW = 1_000 * HOUR
STEPS = pytest.mark.parametrize("step", [HOUR, -HOUR, MAX_AHEAD_MS + 1, -MAX_AHEAD_MS - 1])


def seen_by(region: str, node: str, walls: dict[tuple[str, str], int], mono: int = 0) -> Clocks:
    """What a node knows, once all of these have renewed."""
    clocks = Clocks(region, node)
    for (other_region, other), wall in walls.items():
        clocks.observe(other_region, other, NOW + wall, mono)
    return clocks


def ahead(walls: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """By how much each node finds itself ahead."""
    return {
        (region, node): seen_by(region, node, walls).ahead_ms(NOW + wall, 0)
        for (region, node), wall in walls.items()
    }


@STEPS
def test_one_clock_of_a_region_is_found_wrong_by_itself_alone(step: int) -> None:
    walls = {("eu", name): 0 for name in ("co", "tm", "mr")} | {("eu", "tm"): step}
    assert ahead(walls) == walls
    assert judged(ahead(walls)["eu", "tm"])


@STEPS
def test_region_whose_clocks_are_all_set_is_outvoted_by_two_others(step: int) -> None:
    walls = {(r, n): step if r == "ap" else 0 for r in ("eu", "us", "ap") for n in ("a", "b", "c")}
    assert ahead(walls) == walls


@STEPS
def test_of_two_clocks_and_of_two_regions_nobody_is_judged(step: int) -> None:
    assert set(ahead({("eu", "a"): 0, ("eu", "b"): step}).values()) == {0}
    walls = {(r, n): step if r == "us" else 0 for r in ("eu", "us") for n in ("a", "b", "c")}
    assert set(ahead(walls).values()) == {0}


def test_clock_that_is_alone_is_right_whatever_it_showed_before() -> None:
    clocks = seen_by("eu", "a", {("eu", "a"): 0})
    assert (clocks.ahead_ms(NOW + HOUR, 1), clocks.others(0)) == (0, 0)


def test_time_goes_on_between_renewals_and_who_was_not_heard_for_long_has_no_vote() -> None:
    clocks = seen_by("eu", "a", {("eu", "b"): 0, ("eu", "c"): 0}, mono=5)
    assert clocks.ahead_ms(NOW + KEPT_MS, KEPT_MS + 5) == 0
    assert clocks.ahead_ms(NOW, KEPT_MS + 5) == -KEPT_MS
    assert (clocks.ahead_ms(NOW, KEPT_MS + 6), clocks.others(KEPT_MS + 6)) == (0, 0)


def test_clocks_that_were_all_set_find_together_again_with_their_next_renewals() -> None:
    clocks = seen_by("eu", "a", {("eu", "b"): 0, ("eu", "c"): 0})
    assert judged(clocks.ahead_ms(NOW - HOUR, 1))
    clocks.observe("eu", "b", NOW - HOUR, 2)
    assert clocks.ahead_ms(NOW - HOUR, 2) == 0


@given(st.lists(st.integers(-HOUR, HOUR), min_size=1, max_size=9), st.integers(0, 8))
def test_fewer_than_half_of_the_clocks_cannot_make_a_right_one_wrong(
    steps: list[int], wrong: int
) -> None:
    walls = {("eu", str(n)): step if n < wrong else 0 for n, step in enumerate(steps)}
    if 2 * sum(wall != 0 for wall in walls.values()) < len(walls):
        assert all(ahead(walls)[key] == 0 for key, wall in walls.items() if not wall)


@pytest.mark.parametrize("walls", [
    {("eu", "a"): 0},
    {("eu", "a"): 0, ("eu", "b"): 0, ("eu", "c"): HOUR},
    {(r, n): -HOUR if r == "ap" else 0 for r in ("eu", "us", "ap") for n in ("a", "b")},
])  # fmt: skip
@pytest.mark.parametrize("step", [HOUR, MAX_AHEAD_MS + 1, 1, 0, -HOUR])
def test_clock_without_a_vote_is_judged_by_the_others_alone_and_only_when_it_is_ahead(
    walls: dict[tuple[str, str], int], step: int
) -> None:
    assert seen_by("", "", walls).beyond_ms(NOW + step, 0) == max(0, step)
    assert seen_by("", "", walls).beyond_ms(NOW + HOUR + step, HOUR) == 0, "none is fresh"


def test_clock_without_a_vote_is_not_judged_where_nobody_shows_one() -> None:
    assert Clocks("", "").beyond_ms(NOW + HOUR, 0) == 0
    walls = {("eu", "a"): 0, ("us", "a"): HOUR}
    assert seen_by("", "", walls).beyond_ms(NOW + HOUR, 0) == 0, "either may be right"
