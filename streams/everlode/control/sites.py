"""Which regions are lost: what a majority of sites suspects at once, by the folded control log.

A site is what has, or had, a leading coordinator: its scope coordinator/<region> is in the log.
Each coordinator writes its suspicions there (RegionSuspected), so all who fold the log count the
same ones, also who hears nobody; and a site that is cut off from the majority of the control nodes
accuses nobody. A suspicion stands while its coordinator leads in the epoch in which it was written,
and renews: one whose site has fallen silent itself is worth nothing. The suspected site counts
among all, so two sites are never a majority. Nothing is decided by a loss in this build. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from everlode.control.fold import MAX_TICKS, ControlState
from everlode.control.suspicions import Suspicion

COORDINATOR = "coordinator"


class Loss(NamedTuple):
    """A region that is lost."""

    region: str
    sites: int
    suspicions: tuple[Suspicion, ...]
    """Those that stand, oldest first: a majority."""

    @property
    def since(self) -> int:
        """Control offset of the suspicion that made it a majority."""
        return self.suspicions[self.sites // 2].offset


def sites(control: ControlState) -> tuple[str, ...]:
    """All sites, sorted."""
    names = (scope.partition("/") for scope in control.scopes)
    return tuple(sorted(region for name, _, region in names if name == COORDINATOR))


def renews(control: ControlState, region: str) -> bool:
    """Whether a site's coordinator still renews, as far as the others' renewals tell.

    Not when one of the others has renewed more than MAX_TICKS times since.
    """
    led = control.scopes.get(f"{COORDINATOR}/{region}")
    if led is None:
        return False
    mark = max(led.renewed_at, led.decided_at)
    return all(sum(1 for at in ticks if at > mark) <= MAX_TICKS for ticks in control.ticks.values())


def suspicions(control: ControlState, region: str) -> tuple[Suspicion, ...]:
    """Those about a region that stand, oldest first."""
    found = (
        s
        for s in control.suspicions.values()
        if s.region == region != s.observer and not s.over
        and s.epoch == control.epoch(f"{COORDINATOR}/{s.observer}")
        and renews(control, s.observer)
    )  # fmt: skip
    return tuple(sorted(found, key=lambda s: s.offset))


def losses(control: ControlState) -> dict[str, Loss]:
    """Region → its loss, of those that are lost."""
    known = sites(control)
    found = (Loss(region, len(known), suspicions(control, region)) for region in known)
    return {loss.region: loss for loss in found if 2 * len(loss.suspicions) > loss.sites}
