"""What a region's leading coordinator does next about lost regions, by the control log. Pure.

      lost by a majority        Fence       RegionFenced
      fenced, leases over       Report      PrefixReported      each member, once
      accepted, copy too short  Level       records from the longest copy, then PrefixReported
      level, and the heir       Take        ScopeAssigned       each scope that it owned
      all taken, and it is back Return      RegionReturned      the region itself
      an owner's own failover   Take        ScopeAssigned       what it owns beside follows its own

Each is done when its record has been read back, so whoever leads goes on from the log, and a step
that two take at once is taken once: the first in log order counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from everlode.control.fences import Fence, Vector, out, short, why_not_returned
from everlode.control.fold import ControlState
from everlode.control.sites import losses
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.services import BY_SCOPE
from everlode.topics.names import fact_topic


class FenceRegion(NamedTuple):
    """A region is lost."""

    region: str
    observers: tuple[str, ...]
    sites: int


class Report(NamedTuple):
    """This region has not said yet what its copy holds."""

    fence: Fence


class Level(NamedTuple):
    """This region's copy is too short."""

    fence: Fence
    missing: Mapping[str, int]
    """Place → the first `seq` that is missing; the last one is the accepted."""

    def donor(self, at: str) -> str:
        """A member whose copy of this place is the longest."""
        return max(self.fence.members, key=lambda m: (self.fence.reports[m].get(at, 0), m))


class Take(NamedTuple):
    """This region's primary of the component is to serve this scope, too."""

    scope: str
    primary: str


class Return(NamedTuple):
    """This region was fenced, and is back."""

    fence: Fence


Step = FenceRegion | Report | Level | Take | Return


def heir(control: ControlState, fence: Fence) -> str:
    """The member that takes a fenced region's scopes: all of them, whoever asks.

    One that has taken one already; else who leads most services, with the fewest scopes of others.
    """
    for scope in sorted(fence.epochs):
        owner = control.scopes[scope].region
        if owner != fence.region and owner in fence.members:
            return owner

    def fitness(member: str) -> tuple[int, int, str]:
        led = [s for s in control.scopes.values() if s.region == member and s.primary]
        own = sum(1 for s in led if s.scope.partition("/")[2] == member)
        return -own, len(led) - own, member

    away = out(control.fences)
    standing = [member for member in fence.members if member not in away]
    return min(standing, key=fitness, default="")


def steps(control: ControlState, region: str, quiet: Collection[str]) -> Iterator[Step]:
    """All that the coordinator of `region` has to do now, in order.

    `quiet`: fenced regions whose leases have run out, as far as it knows.
    """
    own, away = control.fences.get(region), out(control.fences)
    if own is not None and own.out:
        heard = region not in losses(control)  # else it would be fenced again at once
        if heard and why_not_returned(control, own) is None:
            yield Return(own)
        return
    for loss in losses(control).values():
        if loss.region != region and loss.region not in away:
            observers = tuple(word.observer for word in loss.suspicions)
            yield FenceRegion(loss.region, observers, loss.sites)
    for fence in control.fences.values():
        if fence.out and region in fence.members:
            yield from _of_fence(control, region, fence, fence.region in quiet)
    yield from _follows(control, region)


def _of_fence(control: ControlState, region: str, fence: Fence, quiet: bool) -> Iterator[Step]:
    if region not in fence.reports:
        if quiet:
            yield Report(fence)
    elif fence.accepted is not None:
        missing = short(fence.reports[region], fence.accepted)
        if missing:
            yield Level(fence, missing)
        elif heir(control, fence) == region:
            yield from _takes(control, region, fence)


def places(origin: str, partitions: int) -> list[tuple[str, int]]:
    """(topic, partition) of all facts of an origin."""
    return [(fact_topic(origin, c), p) for c in FACT_COMPONENTS for p in range(partitions)]


def wanted(level: Level) -> Vector:
    """Place → the last `seq` that is missing."""
    accepted = level.fence.accepted or {}
    return {at: accepted[at] for at in level.missing}


def _takes(control: ControlState, region: str, fence: Fence) -> Iterator[Take]:
    for scope in sorted(fence.epochs):
        service = scope.partition("/")[0]
        own = control.scopes.get(f"{service}/{region}")
        if service not in BY_SCOPE or control.scopes[scope].region != fence.region:
            continue
        if own is not None and own.primary:
            yield Take(scope, own.primary)


def _follows(control: ControlState, region: str) -> Iterator[Take]:
    """A component has one primary in a region, for every scope that this owns."""
    for led in control.scopes.values():
        service, _, home = led.scope.partition("/")
        own = control.scopes.get(f"{service}/{region}")
        if service not in BY_SCOPE or led.region != region or home == region or own is None:
            continue
        if own.primary and own.primary != led.primary:
            yield Take(led.scope, own.primary)
