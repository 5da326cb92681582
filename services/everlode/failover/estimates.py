"""How long a handling will take, from what earlier ones took, and how well that was foreseen. Pure.

    median of the last KEPT that succeeded ──► estimate ──► what happened ──► score

Fewer than FEWEST cases say nothing: the answer is None, which people read as `unknown`, and always
with the count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from statistics import median
from typing import Any, NamedTuple

FEWEST = 5
KEPT = 200


class Estimate(NamedTuple):
    """What to expect."""

    ms: int | None
    """None: unknown."""
    cases: int
    """Earlier ones that it is from, or would be."""


UNKNOWN = Estimate(None, 0)


class Score(NamedTuple):
    """How well it was foreseen."""

    cases: int
    """Ends that had an estimate."""
    typical_error_ms: int | None
    """Median of how far it was off; None: unknown."""
    within_half: int | None
    """Of the cases, those that were off by at most half of what they took; None: unknown."""

    @classmethod
    def of(cls, cases: Collection[tuple[int, int]]) -> Score:
        """Of cases: (estimate, what it was)."""
        if len(cases) < FEWEST:
            return cls(len(cases), None, None)
        errors = [(abs(foreseen - took), took) for foreseen, took in cases]
        typical = round(median(error for error, _ in errors))
        return cls(len(cases), typical, sum(2 * error <= took for error, took in errors))


class History:
    """What handlings of one kind took. Not thread-safe."""

    def __init__(self) -> None:
        self._took: deque[int] = deque(maxlen=KEPT)
        self._foreseen: deque[tuple[int, int]] = deque(maxlen=KEPT)
        """(estimate, what it took)."""
        self._delays: deque[tuple[int, int]] = deque(maxlen=KEPT)
        """(estimate of what then waited on, how long it did)."""

    def measured(self, estimated_ms: int, actual_ms: int) -> None:
        """Fold how long what waited at an end has waited on."""
        self._delays.append((estimated_ms, actual_ms))

    def observe(self, ended: Any) -> None:
        """Fold the end of one; one without success says nothing about time."""
        if not ended.success:
            return
        took, foreseen = ended.actual_recovery_ms, ended.estimated_recovery_ms
        self._took.append(took)
        if foreseen is not None and ended.estimate_cases >= FEWEST:
            self._foreseen.append((foreseen, took))

    @property
    def estimate(self) -> Estimate:
        """Of the next one."""
        cases = len(self._took)
        return Estimate(round(median(self._took)) if cases >= FEWEST else None, cases)

    @property
    def score(self) -> Score:
        """Of those that had an estimate."""
        return Score.of(self._foreseen)

    @property
    def delay_score(self) -> Score:
        """Of what was said to wait on after an end, and how long it did."""
        return Score.of(self._delays)
