"""Phi accrual: how unlikely a silence is, given the heartbeats before it.

Source: Hayashibara et al., "The phi accrual failure detector", 2004; the normal tail by the
logistic approximation that Akka uses. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

FLOOR_MS = 200.0
"""Smallest standard deviation: very regular heartbeats must not convict at once."""
PAUSE_MS = 2_000.0
"""A pause that is always forgiven (a collection, a rebalance)."""
CONVICTED = 8.0


def phi(
    silence_ms: float,
    intervals_ms: Sequence[float],
    expected_ms: float,
    pause_ms: float = PAUSE_MS,
    floor_ms: float = FLOOR_MS,
) -> float:
    """Suspicion of a silence, base-10: phi 1 is wrong once in ten, 8 once in 10^8.

    `intervals_ms` are the last distances between beats; `expected_ms` stands in without any.
    """
    known = intervals_ms or (expected_ms,)
    mean = sum(known) / len(known) + pause_ms
    spread = max(floor_ms, math.sqrt(sum((i + pause_ms - mean) ** 2 for i in known) / len(known)))
    y = (silence_ms - mean) / spread
    power = -y * (1.5976 + 0.070566 * y * y)
    if power < -700:
        return 300.0
    if power > 700:
        return 0.0
    tail = math.exp(power)
    tail = tail / (1 + tail) if y > 0 else 1 - 1 / (1 + tail)
    return -math.log10(tail) if tail > 0 else 300.0
