"""Gaps that the fold met, published on the region's health topic. Shell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID, uuid5

from everlode.errors import Unavailable
from everlode.events.health import GapFound
from everlode.log.signals import SignalWriter
from everlode.projection.fold import Problem

NAMESPACE = UUID("7d4c0a86-1f0b-5f0e-8a55-6b7d0f2f6e03")
GAPS = ("seq_gap", "version_gap")
PUBLISHED_S = 10.0
ReportProblems = Callable[[int, Sequence[Problem]], None]
"""Gets a partition number's problems. Raises: Unavailable: not all are reported."""


def no_report(_: int, __: Sequence[Problem]) -> None:
    """Reports nothing: problems are rows only."""


def gap_id(origin: str, partition: int, problem: Problem) -> str:
    """The same for the same gap found by the same region, by any projector, however often."""
    at = f"{problem.topic}/{partition}/{problem.key}/{problem.expected}/{problem.found}"
    return str(uuid5(NAMESPACE, f"{origin}/{problem.kind}/{at}"))


class Findings:
    """Publishes a `GapFound` for each gap in `seq` or in versions. Thread-safe."""

    def __init__(self, origin: str, signals: SignalWriter) -> None:
        self._origin = origin
        self._signals = signals

    def __call__(self, partition: int, problems: Sequence[Problem]) -> None:
        """Publish the gaps; returns once they are there. Raises: Unavailable."""
        gaps = [p for p in problems if p.kind in GAPS]
        for gap in gaps:
            data = GapFound(
                topic=gap.topic, partition=partition, key=gap.key, expected=gap.expected,
                found=gap.found,
            )  # fmt: skip
            event_id = gap_id(self._origin, partition, gap)
            self._signals.signal(
                data, topic="health", key=gap.topic, partition=0, event_id=event_id
            )
        if gaps and self._signals.flush(PUBLISHED_S):
            raise Unavailable("a gap could not be published on the health topic")
