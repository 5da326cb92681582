"""What is told of the takeover of lost regions on a region's recovery stream, by the control log.

      RegionFenced us             started, fence
      PrefixReported eu           report        of the region that tells
      all members have reported   accept
      PrefixReported eu           level         its copy holds all that counts
      ScopeAssigned, takeover     take          each scope that it owns now
      all scopes are owned        taken         the end

Each member tells it on its own stream, under ids that follow from the fence, so whoever leads there
goes on where another one stopped, and a repeat is known as such. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from uuid import uuid5

from everlode.control.fences import Fence
from everlode.control.fold import ControlState
from everlode.events.base import Event
from everlode.events.recovery import OperationStarted, OperationStep
from everlode.events.services import BY_SCOPE
from everlode.events.types import fitting
from everlode.failover.planner import NAMESPACE

TAKEN = "taken"
"""The step with which a takeover ends."""


class Milestone(NamedTuple):
    """An event of a takeover."""

    operation: str
    region: str
    """The lost one."""
    what: str
    """Which event of the operation it is."""
    data: Event


def milestones(control: ControlState, region: str) -> Iterator[Milestone]:
    """All that the coordinator of `region` has to have told by now, in order."""
    for fence in control.fences.values():
        if region in fence.members:
            yield from _of(control, region, fence)


def _of(control: ControlState, region: str, fence: Fence) -> Iterator[Milestone]:
    operation = str(uuid5(NAMESPACE, f"takeover/{fence.region}/{fence.offset}/{region}"))
    scope = f"coordinator/{fence.region}"
    began = OperationStarted(
        kind="takeover", region=fence.region, subject=fence.region, scope_name=scope,
        scope_epoch=fence.epochs.get(scope, 0), evidence=(),
    )  # fmt: skip
    yield Milestone(operation, fence.region, "started", began)
    for number, (name, what, detail) in enumerate(_steps(control, region, fence), 1):
        data = OperationStep(
            kind="takeover", number=number, step="other", subject=name, outcome="done",
            detail=fitting(detail), duration_ms=0,
        )  # fmt: skip
        yield Milestone(operation, fence.region, f"{name}/{what}", data)


def _steps(control: ControlState, region: str, fence: Fence) -> Iterator[tuple[str, str, str]]:
    """Of each step that is done: its name, what it was about, a sentence."""
    members = ", ".join(fence.members)
    yield "fence", "", f"{fence.region} leads nothing since {fence.offset}; {members} report"
    if region in fence.reports:
        yield "report", "", f"{region} has said what its copy of {fence.region} holds"
    if fence.accepted is None:
        return
    yield "accept", "", f"it is known what counts of {len(fence.accepted)} partitions"
    if fence.level(region):
        yield "level", "", f"{region}'s copy holds all that counts"
    owners = {s: control.scopes[s] for s in sorted(fence.epochs) if s.partition("/")[0] in BY_SCOPE}
    for scope, led in owners.items():
        if led.region == region:
            yield "take", scope, f"{scope} is {region}'s in epoch {led.epoch}, led by {led.primary}"
    if all(led.region != fence.region for led in owners.values()):
        by = ", ".join(sorted({led.region for led in owners.values()}))
        yield TAKEN, "", f"{len(owners)} scopes of {fence.region} have another owner: {by}"
