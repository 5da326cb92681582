"""Who gets no work for a while because it fails, and how it comes back. Pure.

           FAILURES in a row               the time is over            it works
    trusted ──────────────► ejected ───────────────► warming up ─────────────► trusted
       ▲                       ▲     BASE_MS, twice as long each time    │
       │                       └──────────── one failure ────────────────┘
       └── a success after its warm-up takes one ejection off

Failures count one by one however quickly they come: who fails at once is idle at once, and would
get all the work. While it warms up it is given a growing share of what it can take. Of all that
could get work a tenth at most is ejected at a time, and at least one may be; the others go on, as
bad as they are: when all fail it is not they who are to blame.

Invariants: a fold of outcomes in their order, by their own times: whoever folds the same agrees.
Times are milliseconds of whatever clock the outcomes are timed by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import nlargest
from typing import NamedTuple

PPM = 1_000_000
FAILURES = 3
"""In a row; one is enough while it warms up."""
BASE_MS, LONGEST_MS = 30_000, 480_000
"""The first ejection; the longest that one becomes."""
WARM_MS = 60_000
"""How long it takes to get as much as before."""
COLDEST_PPM = 100_000
"""Share of what it can take that it begins with."""
MOST_PPM = 100_000
"""Share of all that may be ejected at a time."""


class Standing(NamedTuple):
    """What the outcomes of one's work say of it."""

    failures: int = 0
    """In a row, up to the last outcome."""
    ejections: int = 0
    """That no success has taken off since."""
    until_ms: int | None = None
    """When its last ejection ends; None before the first."""

    def is_out(self, now_ms: int) -> bool:
        """True while it is to be ejected."""
        return self.until_ms is not None and now_ms < self.until_ms

    def warm_ppm(self, now_ms: int) -> int:
        """Share of what it can take that it is given, in millionths; all before an ejection."""
        if self.until_ms is None:
            return PPM
        since = max(0, now_ms - self.until_ms)
        return min(PPM, COLDEST_PPM + (PPM - COLDEST_PPM) * since // WARM_MS)


TRUSTED = Standing()


def after(standing: Standing, at_ms: int, success: bool) -> Standing:
    """The standing after one more outcome. One within an ejection is of work from before it."""
    if standing.is_out(at_ms):
        return standing
    warming = standing.until_ms is not None and at_ms < standing.until_ms + WARM_MS
    if success:
        return standing._replace(failures=0, ejections=max(0, standing.ejections - (not warming)))
    failures, ejections = standing.failures + 1, standing.ejections + 1
    if failures < FAILURES and not warming:
        return standing._replace(failures=failures)
    lasts = min(LONGEST_MS, BASE_MS << min(ejections - 1, 10))
    return Standing(0, ejections, at_ms + lasts)


def standing_of(outcomes: Iterable[tuple[int, bool]]) -> Standing:
    """The standing after outcomes in their order: (time in ms, whether it was a success)."""
    standing = TRUSTED
    for at_ms, success in outcomes:
        standing = after(standing, at_ms, success)
    return standing


def most_out(count: int) -> int:
    """How many of so many may be ejected at a time."""
    return max(1, count * MOST_PPM // PPM) if count else 0


def out_now(standings: Mapping[str, Standing], now_ms: int, count: int) -> frozenset[str]:
    """Those of `count` that are ejected now: of too many those that were ejected most often.

    Costs what is in `standings`; nobody who was never ejected needs to be.
    """
    out = [(s.ejections, key) for key, s in standings.items() if s.is_out(now_ms)]
    most = most_out(count)
    return frozenset(key for _, key in (out if len(out) <= most else nlargest(most, out)))
