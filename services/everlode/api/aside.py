"""A value that is computed aside: whoever asks gets the newest one at once, and its age.

For what asks many parts, of which one that does not answer must not hold up a page. Shell: a thread
while it computes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from everlode.errors import EverlodeError


class Aged(NamedTuple):
    """A value, and how old it is."""

    value: Any
    age_s: float


class Aside:
    """One value. Thread-safe."""

    def __init__(self, fresh_s: float) -> None:
        self._fresh_s = fresh_s
        self._guard, self._busy = threading.Lock(), False
        self._found: tuple[Any, float] | None = None

    def newest(self, compute: Callable[[], Any]) -> Aged | None:
        """The value that was computed last; None: none was yet. Returns at once.

        When it is older than `fresh_s` and nobody is at it, it is computed anew.
        """
        with self._guard:
            found, now = self._found, time.monotonic()
            due = not self._busy and (found is None or now - found[1] > self._fresh_s)
            self._busy = self._busy or due
        if due:
            threading.Thread(target=self._run, args=(compute,), name="aside", daemon=True).start()
        return None if found is None else Aged(found[0], now - found[1])

    def _run(self, compute: Callable[[], Any]) -> None:
        try:
            found = compute(), time.monotonic()
            with self._guard:
                self._found = found
        except EverlodeError:  # the age of the last one says it; the next who asks tries again
            pass
        finally:
            with self._guard:
                self._busy = False
