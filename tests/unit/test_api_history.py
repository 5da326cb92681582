"""Figures over time: bounded, with gaps where nothing was known, as lines that fit their box."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping

import pytest

from everlode.api.history import AGAIN_S, EVERY_S, GAP_S, KEPT, History, Sample, charts, numbers
from everlode.demo.charts import HEIGHT, LEFT, RIGHT, WIDTH
from everlode.errors import Unavailable

KEY = "task-manager", "active_tasks"
POINT = re.compile(r"([ML])([\d.]+) (-?[\d.]+)")


def samples(*values: float | None, every_s: float = EVERY_S) -> list[Sample]:
    return [
        Sample(1_000_000 + n * every_s, {} if value is None else {KEY: value})
        for n, value in enumerate(values)
    ]


def one(*values: float | None, every_s: float = EVERY_S) -> Mapping[str, object]:
    (chart,) = charts(samples(*values, every_s=every_s))[KEY[0]]
    return chart


def points(*values: float | None, every_s: float = EVERY_S) -> list[tuple[str, float, float]]:
    found = POINT.findall(str(one(*values, every_s=every_s)["path"]))
    return [(draw, float(x), float(y)) for draw, x, y in found]


def test_numbers_of_a_cluster_are_its_figures_and_nothing_else() -> None:
    cluster = {"kind": "k", "a": 1, "b": 0.5, "c": None, "d": True, "e": {"x": 1}, "f": [1]}
    assert numbers("k", cluster) == {("k", "a"): 1.0, ("k", "b"): 0.5}


def test_samples_are_bounded_and_the_oldest_go_first() -> None:
    asked: list[float] = []

    def ask() -> dict[tuple[str, str], float]:
        asked.append(float(len(asked)))
        return {KEY: asked[-1]}

    found = History(ask)
    assert {found.sample() for _ in range(KEPT + 3)} == {EVERY_S}
    assert [s.figures[KEY] for s in found.samples()] == asked[3:]


def test_what_does_not_answer_is_a_gap_and_is_asked_again_soon() -> None:
    def fails() -> dict[tuple[str, str], float]:
        raise Unavailable("PostgreSQL is away")

    found = History(fails)
    assert found.sample() == AGAIN_S
    assert found.samples() == []


def test_sampling_takes_a_twentieth_of_the_time_at_most() -> None:
    now = iter([0.0, 3.0])
    assert History(dict, lambda: next(now)).sample() == 60.0


def test_follower_ends_when_it_is_told() -> None:
    stop = threading.Event()

    def ask() -> dict[tuple[str, str], float]:
        stop.set()
        return {KEY: 1.0}

    found = History(ask)
    found.follow(stop)
    assert len(found.samples()) == 1


def test_line_goes_through_all_that_was_known_from_one_border_to_the_other() -> None:
    found = points(0, 5, 10)
    assert [draw for draw, _, _ in found] == ["M", "L", "L"]
    assert [x for _, x, _ in found] == [LEFT, LEFT + (WIDTH - LEFT - RIGHT) / 2, WIDTH - RIGHT]
    assert found[0][2] > found[1][2] > found[2][2] >= 0
    assert found[0][2] <= HEIGHT


def test_line_is_broken_where_nothing_was_known() -> None:
    known = [1.0, 1.0]
    gap = [None] * round(GAP_S / EVERY_S)
    assert [draw for draw, *_ in points(*known, *gap, *known)] == ["M", "L", "M", "L"]
    assert [draw for draw, *_ in points(*known, None, *known)] == ["M", "L", "L", "L"]


def test_figure_says_what_it_is_now_and_was() -> None:
    chart = one(2, 1234, 0.5)
    assert (chart["now"], chart["least"], chart["most"]) == ("0.500", "0.500", "1,234")
    assert chart["known"] is True
    assert one(2, None)["known"] is False


@pytest.mark.parametrize("values", [(0.0, 0.0), (-5.0, 5.0), (-3.0, -1.0), (1e15, 1.0), (7.0,)])
def test_line_stays_in_its_box_whatever_the_values(values: tuple[float, ...]) -> None:
    chart = one(*values)
    for _, x, y in points(*values):
        assert LEFT <= x <= WIDTH - RIGHT
        assert 0 <= y <= HEIGHT
    assert 0 <= float(str(chart["zero"])) <= HEIGHT


def test_nothing_known_is_no_chart() -> None:
    assert charts([]) == {}
    assert charts(samples(None, None)) == {}
