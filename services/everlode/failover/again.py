"""What is repeated only after a while: a record that may still take effect, a line in the log."""

from __future__ import annotations

import time
from collections.abc import Hashable

AGAIN_S = 10.0
"""A record that did not take effect is written again after this time."""


class Again:
    """Lets each key through at most once in `every_s` seconds. Memory: one entry a key."""

    def __init__(self, every_s: float = AGAIN_S) -> None:
        self._every_s = every_s
        self._last: dict[Hashable, float] = {}

    def due(self, key: Hashable) -> bool:
        """True when it is time; the next time counts from then, also when what follows fails."""
        now = time.monotonic()
        if now - self._last.get(key, float("-inf")) < self._every_s:
            return False
        self._last[key] = now
        return True
