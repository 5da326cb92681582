"""Which regions are lost: what a majority of sites suspects at once, by the folded control log.

A site is what has, or had, a leading coordinator: its scope coordinator/<region> is in the log.
Each coordinator writes its suspicions there (RegionSuspected), so all who fold the log count the
same ones, also who hears nobody; and a site that is cut off from the majority of the control nodes
accuses nobody. A suspicion stands while its coordinator leads in the epoch in which it was written,
for STANDS_TICKS renewals of any coordinator since it was sent, so it is said again and again: who
falls silent, or sleeps, or whose append lands late, accuses nobody by what it said before. The
suspected site counts among all, so two sites are never a majority. Nothing is decided by a loss in
this build. Pure.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from everlode.control.fold import ControlState
from everlode.control.suspicions import Suspicion

COORDINATOR = "coordinator"
STANDS_TICKS, REPEAT_TICKS = 4, 2
"""A suspicion is over after more renewals of one coordinator than the first since it was sent; it
is said again after the second of the observer's own. Below MAX_TICKS: so many are always known."""


class Loss(NamedTuple):
    """A region that is lost."""

    region: str
    sites: int
    suspicions: tuple[Suspicion, ...]
    """Those that stand, by observer: a majority."""


def sites(control: ControlState) -> tuple[str, ...]:
    """All sites, sorted."""
    names = (scope.partition("/") for scope in control.scopes)
    return tuple(sorted(region for name, _, region in names if name == COORDINATOR))


def passed(control: ControlState, region: str, offset: int) -> int:
    """Renewals of a region's coordinator since a control offset; of many the last are known."""
    return sum(1 for at in control.ticks.get(region, ()) if at > offset)


def stands(control: ControlState, word: Suspicion | None) -> bool:
    """Whether a coordinator's last word on a region is a suspicion that counts now."""
    if word is None or word.over or word.region == word.observer:
        return False
    if word.epoch != control.epoch(f"{COORDINATOR}/{word.observer}"):
        return False
    return all(passed(control, r, word.based_on) <= STANDS_TICKS for r in control.ticks)


def suspicions(control: ControlState, region: str) -> tuple[Suspicion, ...]:
    """Those about a region that stand, by observer."""
    return tuple(
        word
        for _, word in sorted(control.suspicions.items())
        if word.region == region and stands(control, word)
    )


def losses(control: ControlState) -> dict[str, Loss]:
    """Region → its loss, of those that are lost."""
    known = sites(control)
    said = Counter(word.region for word in control.suspicions.values() if not word.over)
    accused = [region for region in known if 2 * said[region] > len(known)]
    found = (Loss(region, len(known), suspicions(control, region)) for region in accused)
    return {loss.region: loss for loss in found if 2 * len(loss.suspicions) > loss.sites}
