"""Clocks: event time follows its knots, both ways."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from everlode.adapters.clock import PacedClock, instant, millis
from everlode.errors import ConfigError

KNOTS = [(1000, 0), (2000, 10_000), (4000, 10_000), (5000, 11_000)]


@pytest.mark.parametrize(
    ("wall", "event"),
    [
        (0, 0),
        (1000, 0),
        (1500, 5000),
        (2000, 10_000),
        (3000, 10_000),
        (5000, 11_000),
        (5500, 11_500),
    ],
)
def test_paced_clock_maps_wall_to_event_time(wall: int, event: int) -> None:
    assert PacedClock(KNOTS).event_ms_at(wall) == event


@pytest.mark.parametrize("event", [0, 1, 4999, 5000, 9_999, 10_500, 11_000, 12_345])
def test_paced_clock_wall_time_of_an_event_time_has_come_to_it(event: int) -> None:
    clock = PacedClock(KNOTS)
    assert clock.event_ms_at(clock.wall_ms_of(event) + 1) >= event


@pytest.mark.parametrize("knots", [[], [(1, 1), (1, 2)], [(1, 2), (2, 1)]])
def test_paced_clock_refuses_knots_that_do_not_rise(knots: list[tuple[int, int]]) -> None:
    with pytest.raises(ConfigError, match="knots must rise"):
        PacedClock(knots)


@pytest.mark.parametrize("text", ["", "[1]", "{}", '[["a", 1]]'])
def test_paced_clock_file_that_is_damaged_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "clock.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="clock"):
        PacedClock.load(path)


def test_paced_clock_is_loaded_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "clock.json"
    path.write_text(json.dumps(KNOTS))
    assert PacedClock.load(path).event_ms_at(1500) == 5000


def test_instant_and_millis_are_inverse() -> None:
    assert millis(instant(1_767_225_600_123)) == 1_767_225_600_123
