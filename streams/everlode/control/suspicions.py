"""The last word of each region's coordinator on each other region. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from everlode.events.base import Envelope
from everlode.events.control import RegionSuspected


class Suspicion(NamedTuple):
    """The last word of a region's coordinator on another region."""

    region: str
    observer: str
    epoch: int
    """Of the observer's coordinator; without effect in any other one."""
    offset: int
    based_on: int
    """Control offset that it had read when it sent this; its age counts from here."""
    over: bool
    silence_ms: int


Suspicions = Mapping[str, Suspicion]
"""`observer/region` → the last word of the one on the other, of any epoch."""


def suspected(
    known: Suspicions, data: RegionSuspected, by: Envelope, epoch: int, offset: int
) -> Suspicion | str:
    """The word as it counts from `offset` on, or why it has no effect.

    `epoch`: the current one of the observer's coordinator, under whose scope and epoch it must
    have been written.
    """
    if by.scope != f"coordinator/{data.observer}" or by.epoch != epoch:
        return f"{by.scope} does not speak for {data.observer} in epoch {by.epoch}"
    last = known.get(f"{data.observer}/{data.region}")
    if last is not None and last.epoch == epoch and data.based_on < last.based_on:
        return f"it was sent before the one at {last.offset}"
    return Suspicion(
        data.region, data.observer, epoch, offset, data.based_on, data.over, data.silence_ms
    )
