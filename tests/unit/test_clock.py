"""Event time: a straight map between knots, the same for all who read the file."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.adapters.clock import PacedClock, WallClock, instant, millis
from everlode.errors import ConfigError

_steps = st.lists(
    st.tuples(st.integers(1, 10_000), st.integers(0, 10_000_000)), min_size=1, max_size=8
)


def paced(steps: list[tuple[int, int]]) -> tuple[PacedClock, list[tuple[int, int]]]:
    wall, event, knots = 1_000_000, 5_000_000, []
    for more_wall, more_event in steps:
        wall, event = wall + more_wall, event + more_event
        knots.append((wall, event))
    return PacedClock(knots), knots


@given(_steps, st.lists(st.integers(999_000, 1_100_000), min_size=2, max_size=20))
def test_event_time_never_goes_back_whatever_the_knots(
    steps: list[tuple[int, int]], walls: list[int]
) -> None:
    clock, knots = paced(steps)
    assert [clock.event_ms_at(w) for w, _ in knots] == [e for _, e in knots]
    events = [clock.event_ms_at(w) for w in sorted(walls)]
    assert all(a <= b for a, b in pairwise(events))


@given(_steps, st.integers(5_000_000, 30_000_000))
def test_wall_time_of_an_event_time_is_the_first_at_which_it_has_come(
    steps: list[tuple[int, int]], event: int
) -> None:
    clock, knots = paced(steps)
    wall = clock.wall_ms_of(event)
    assert clock.event_ms_at(wall) >= event
    assert wall == knots[0][0] or clock.event_ms_at(wall - 1) < event


def test_event_time_stands_before_the_first_knot_and_runs_on_after_the_last() -> None:
    clock = PacedClock([(100, 5_000), (200, 15_000)])
    assert clock.event_ms_at(0) == 5_000
    assert clock.event_ms_at(150) == 10_000
    assert clock.event_ms_at(260) == 15_060
    assert clock.wall_ms_of(15_060) == 260


@pytest.mark.parametrize("knots", [[], [(2, 1), (1, 2)], [(1, 1), (1, 2)], [(1, 5), (2, 4)]])
def test_knots_that_do_not_rise_are_refused(knots: list[tuple[int, int]]) -> None:
    with pytest.raises(ConfigError, match="knots must rise"):
        PacedClock(knots)


def test_clock_file_is_read_and_a_broken_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    with pytest.raises(ConfigError, match=r"clock\.json"):
        PacedClock.load(path)
    for broken in ("{", "[1]", "[[1]]", "null"):
        path.write_text(broken)
        with pytest.raises(ConfigError, match=r"clock\.json"):
            PacedClock.load(path)
    path.write_text(json.dumps([[0, 0], [10, 1000]]))
    assert PacedClock.load(path).event_ms_at(5) == 500


@given(st.integers(0, 4_000_000_000_000))
def test_instants_and_milliseconds_go_both_ways(ms: int) -> None:
    assert millis(instant(ms)) == ms


def test_wall_clock_is_in_utc_and_whole_milliseconds() -> None:
    now = WallClock().event_now()
    assert now.tzinfo == UTC
    assert now.microsecond % 1000 == 0
    assert now > datetime(2024, 1, 1, tzinfo=UTC)


def test_clock_that_stands_still_takes_a_new_start_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "clock.json"
    now = WallClock().wall_ms()
    file.write_text(json.dumps([[now + 10_000_000, 5], [now + 20_000_000, 6]]))
    clock = PacedClock.load(file)
    assert millis(clock.event_now()) == 5
    draft = tmp_path / "draft"
    draft.write_text(json.dumps([[now - 10, 5], [now - 1, 900]]))
    draft.replace(file)
    deadline = time.monotonic() + 5
    while millis(clock.event_now()) == 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert millis(clock.event_now()) >= 900


def test_clock_that_has_begun_never_goes_back_whatever_its_file_says(tmp_path: Path) -> None:
    file = tmp_path / "clock.json"
    now = WallClock().wall_ms()
    file.write_text(json.dumps([[now - 10_000, 5], [now - 9_000, 6]]))
    clock = PacedClock.load(file)
    begun = millis(clock.event_now())
    file.write_text(json.dumps([[now + 10_000_000, 1], [now + 20_000_000, 2]]))
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        assert millis(clock.event_now()) >= begun >= 6
        time.sleep(0.05)
