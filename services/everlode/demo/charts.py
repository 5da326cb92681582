"""Where the marks of the report's charts stand: plain numbers for the page's template. Pure.

A chart is `WIDTH` by its own height, in the units of its viewBox; the page scales it. Time runs
from the first second that is shown to the last, values from 0 at the bottom upwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

WIDTH = 900
HEIGHT = 160
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 22, 22
GRID = 4


class Tick(NamedTuple):
    """A mark of an axis: where it stands, and what it says."""

    at: float
    text: str


class Band(NamedTuple):
    """A span of time that is named: a fault, or a stage."""

    x: float
    width: float
    name: str


class Axes(NamedTuple):
    """From values to places."""

    begin_s: float
    end_s: float
    top: float

    def x(self, at_s: float) -> float:
        """Place of a time; one outside is put at the border."""
        share = (at_s - self.begin_s) / max(1e-9, self.end_s - self.begin_s)
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, share)), 1)

    def y(self, value: float) -> float:
        """Place of a value."""
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / max(1e-9, self.top), 1)

    def seconds(self) -> list[Tick]:
        """Marks of the time axis, in seconds since its beginning."""
        length = self.end_s - self.begin_s
        step = next((s for s in (1, 2, 5, 10, 30, 60, 120, 300, 600) if length / s <= 10), 3600)
        count = int(length // step) + 1
        return [Tick(self.x(self.begin_s + n * step), f"{n * step} s") for n in range(count)]

    def values(self, unit: str) -> list[Tick]:
        """Marks of the value axis."""
        return [
            Tick(self.y(self.top * n / GRID), f"{self.top * n / GRID:g}{unit}")
            for n in range(GRID + 1)
        ]


def rounded_up(value: float) -> float:
    """The next of 1, 2, 4, 8 times a power of ten: an axis ends there."""
    power = 1.0
    while power * 10 < value:
        power *= 10
    while power > value > 0:
        power /= 10
    return next((power * n for n in (1, 2, 4, 8) if power * n >= value), power * 10)


def path(axes: Axes, points: Iterable[tuple[float, float]], gap_s: float) -> str:
    """An SVG path through (second, value); broken where more than `gap_s` lie between."""
    said: list[str] = []
    before: float | None = None
    for at, value in points:
        draw = "L" if before is not None and at - before <= gap_s else "M"
        said.append(f"{draw}{axes.x(at)} {axes.y(value)}")
        before = at
    return " ".join(said)


def bands(axes: Axes, spans: Mapping[str, Sequence[float]]) -> list[Band]:
    """Named spans (begin, end) in seconds, as far as they are shown."""
    found = []
    for name, (begin, end) in spans.items():
        x = axes.x(begin)
        found.append(Band(x, round(max(2.0, axes.x(end) - x), 1), name))
    return found


def answers(by_second: Mapping[str, Sequence[int]], axes: Axes) -> dict[str, Any]:
    """Bars of the answers of each second, in time and late, and the line of their p95."""
    seconds = sorted((int(s), v) for s, v in by_second.items())
    width = max(1.0, (WIDTH - LEFT - RIGHT) / max(1.0, axes.end_s - axes.begin_s) - 0.5)
    bars = [
        {"x": axes.x(s), "w": round(width, 1), "y": axes.y(n), "in_time": axes.y(good),
         "late": n - good, "n": n}
        for s, (n, good, _) in seconds
    ]  # fmt: skip
    slow = Axes(axes.begin_s, axes.end_s, rounded_up(max((v[2] for _, v in seconds), default=1)))
    return {
        "bars": bars,
        "p95": path(slow, ((s + 0.5, v[2]) for s, v in seconds), 2.5),
        "axes": slow,
    }


def stages(components: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The stages of a recovery as bars one after the other, each as long as it took."""
    total = sum(c["recovery_time_ms"] for c in components) or 1
    span, x, found = WIDTH - LEFT - RIGHT, float(LEFT), []
    for c in components:
        width = span * c["recovery_time_ms"] / total
        found.append({**c, "x": round(x, 1), "w": round(max(1.0, width), 1)})
        x += width
    return found
