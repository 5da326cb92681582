"""How often somebody may ask: a bucket of places for each, filled at a steady rate.

Invariants: memory is bounded, whoever asks; time is an input. Pure.
"""

from __future__ import annotations

from collections import OrderedDict

MOST_KNOWN = 10_000
"""Callers that are remembered; the one that asked longest ago is forgotten, and begins anew."""


class Rates:
    """At most `rate` requests a second of each caller, `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, caller: str, now: float) -> float:
        """0: it may ask now, and has; else seconds until it may. `now` in s, monotonic."""
        left, at = self._left.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        free = left >= 1
        self._left[caller] = (left - 1 if free else left, now)
        if len(self._left) > MOST_KNOWN:
            self._left.popitem(last=False)
        return 0.0 if free else (1 - left) / self._rate
