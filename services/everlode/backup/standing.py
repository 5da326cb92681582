"""How the projector stood at the moment of a backup, and the stamp T that follows from it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from everlode.errors import Precondition
from everlode.projection.fold import Incoming

STALE_MS = 30_000
"""A partition further behind the newest than this is stale: T does not wait for it."""
Fence = tuple[str, str]
"""(topic, scope)."""


class Applied(NamedTuple):
    """Where the projector stands in one partition of one topic; `seq` 0: before the first."""

    topic: str
    partition: int
    seq: int
    stamp: int
    next_offset: int = 0
    """In the region's cluster."""


class Opening(NamedTuple):
    """An epoch of a scope that was opened in a partition; `seq` 0: nobody noted where."""

    epoch: int
    seq: int


class Row(NamedTuple):
    """An aggregate as its row had it at the moment."""

    version: int
    stamp: int
    sha256: bytes
    """Of its state, as it is in the state topic."""
    on_its_way: bool
    """The state topic may not have it yet, and nothing is wrong."""


class Chosen(NamedTuple):
    """The cut's stamp, and which (topic, partition) are stale or empty."""

    stamp: int
    status: dict[tuple[str, int], str]


@dataclass(frozen=True, slots=True)
class Standing:
    """One partition number at the moment, whatever its keys."""

    partition: int
    applied: Mapping[str, Applied]
    """Each fact topic → where the projector stood."""
    openings: Mapping[Fence, tuple[Opening, ...]]
    """All that are known, rising."""
    parked: tuple[Incoming, ...]
    """Facts that waited."""
    unlawful: frozenset[str]
    """Aggregates with a fact that the projector could not fold: their gaps are not ours."""
    short: frozenset[str] = frozenset()
    """Topics whose log ends before what was applied of it."""


def choose(applied: Iterable[Applied]) -> Chosen:
    """The stamp of the cut.

    Raises: Precondition: the projector has applied nothing yet.
    """
    rows = list(applied)
    newest = max((r.stamp for r in rows), default=0)
    if newest == 0:
        raise Precondition(
            "the projector has applied nothing yet: there is nothing to back up",
            hint="is it running? everlode status",
        )
    bound = newest - (STALE_MS << 16)
    status = {
        (r.topic, r.partition): "empty" if not r.seq else "live" if r.stamp >= bound else "stale"
        for r in rows
    }
    live = [r.stamp for r in rows if status[r.topic, r.partition] == "live"]
    return Chosen(min(live), status)
