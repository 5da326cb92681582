"""The figures of a region's clusters over time, in bounded memory, and as charts of the page.

    projection ─► a sample each 15 s ─► the last hour, kept ─► GET /pages/figures

Sampling takes a twentieth of the time at most: the longer one takes, the later is the next. What a
server was not there for, or what did not answer, is a gap. `charts` and `numbers` are pure; else
shell: one thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from everlode.demo.charts import HEIGHT, LEFT, RIGHT, WIDTH, Axes, path, rounded_up
from everlode.errors import EverlodeError

EVERY_S = 15.0
AGAIN_S = 2.0
"""After one that failed."""
KEPT = 240
"""Samples, of an hour."""
SHARE = 20.0
"""A sample that took a second is followed by the next after so many."""
GAP_S = 4 * EVERY_S
"""A line is broken where nothing was known for so long."""

Key = tuple[str, str]
"""Kind of cluster, and name of the figure."""


class Sample(NamedTuple):
    """What was known at a moment."""

    at_s: float
    """Since 1970."""
    figures: Mapping[Key, float]


def numbers(kind: str, cluster: Mapping[str, Any]) -> dict[Key, float]:
    """The figures of a cluster that are numbers; what there is nothing to compute from is not.

    Pure.
    """
    return {
        (kind, name): float(value)
        for name, value in cluster.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


class History:
    """Samples of one region. Thread-safe."""

    def __init__(
        self, ask: Callable[[], Mapping[Key, float]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`ask`: the figures now; may raise Unavailable or NotFound."""
        self._ask, self._clock = ask, clock
        self._samples: deque[Sample] = deque(maxlen=KEPT)

    def samples(self) -> list[Sample]:
        """All that are kept, oldest first."""
        return list(self._samples)

    def sample(self) -> float:
        """Take one; returns after how many seconds the next is due."""
        began, again_s = self._clock(), AGAIN_S
        with suppress(EverlodeError):  # the gap says it
            self._samples.append(Sample(time.time(), self._ask()))
            again_s = EVERY_S
        return max(again_s, SHARE * (self._clock() - began))

    def follow(self, stop: threading.Event) -> None:
        """Take samples until `stop`."""
        while not stop.wait(self.sample()):
            pass


def charts(samples: Sequence[Sample]) -> dict[str, list[dict[str, Any]]]:
    """Kind of cluster → its figures, each with its line and what it says in words. Pure."""
    if not samples:
        return {}
    keys = {key: None for sample in samples for key in sample.figures}
    found: dict[str, list[dict[str, Any]]] = {}
    for kind, name in keys:
        points = [(s.at_s, s.figures[kind, name]) for s in samples if (kind, name) in s.figures]
        values = [value for _, value in points]
        low, top = min(0.0, *values), rounded_up(max(0.0, *values) - min(0.0, *values))
        axes = Axes(samples[0].at_s, samples[-1].at_s, top)
        found.setdefault(kind, []).append({
            "name": name.replace("_", " "), "now": _short(values[-1]),
            "least": _short(min(values)), "most": _short(max(values)),
            "known": samples[-1].at_s == points[-1][0],
            "path": path(axes, ((at, value - low) for at, value in points), GAP_S),
            "zero": axes.y(-low),
        })  # fmt: skip
    return found


def _short(value: float) -> str:
    """A number for people: whole ones whole, others to three places."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3f}"


BOX = f"{LEFT} 0 {WIDTH - LEFT - RIGHT} {HEIGHT}"
"""The part of a chart that holds its line: what its axes say is said in words."""
