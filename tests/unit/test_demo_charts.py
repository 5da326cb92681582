"""The report's charts: places follow from values, and what is not known is not drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.demo.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axes,
    answers,
    bands,
    path,
    rounded_up,
    stages,
)

AXES = Axes(100, 200, 50)


def test_axes_run_from_border_to_border() -> None:
    assert (AXES.x(100), AXES.x(200)) == (LEFT, WIDTH - RIGHT)
    assert (AXES.y(0), AXES.y(50)) == (HEIGHT - BOTTOM, TOP)
    assert (AXES.x(-5), AXES.x(900)) == (LEFT, WIDTH - RIGHT)
    assert [t.text for t in AXES.seconds()][:3] == ["0 s", "10 s", "20 s"]
    assert [t.text for t in AXES.values(" ms")] == [
        "0 ms", "12.5 ms", "25 ms", "37.5 ms", "50 ms",
    ]  # fmt: skip


@given(st.floats(1e-3, 1e9))
def test_axis_ends_above_its_greatest_value_and_not_far(value: float) -> None:
    assert value <= rounded_up(value) <= value * 2.5


@pytest.mark.parametrize(("value", "end"), [(0, 1), (1, 1), (3, 4), (9, 10), (41, 80), (0.3, 0.4)])
def test_axis_ends_at_a_round_number(value: float, end: float) -> None:
    assert rounded_up(value) == pytest.approx(end)


def test_line_breaks_where_nothing_is_known() -> None:
    drawn = path(AXES, [(100, 0), (102, 50), (150, 0)], gap_s=5)
    assert [c for c in drawn if c.isalpha()] == ["M", "L", "M"]


def test_bands_are_never_too_thin_to_be_seen() -> None:
    (band,) = bands(AXES, {"fault": (110, 110)})
    assert (band.x, band.width, band.name) == (AXES.x(110), 2.0, "fault")


def test_bars_are_in_time_below_and_late_above() -> None:
    drawn = answers({"100": [50, 25, 7]}, AXES)
    (bar,) = drawn["bars"]
    assert (bar["y"], bar["in_time"], bar["late"]) == (AXES.y(50), AXES.y(25), 25)


def test_stages_follow_each_other_as_long_as_they_took() -> None:
    first, second = stages([{"recovery_time_ms": 30}, {"recovery_time_ms": 10}])
    assert second["x"] == pytest.approx(first["x"] + first["w"])
    assert first["w"] == pytest.approx(3 * second["w"], rel=0.01)
    assert stages([]) == []
