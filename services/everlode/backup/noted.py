"""What the projector had done, at one moment: read in one transaction of its PostgreSQL. Shell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from everlode.adapters.postgres import Projection
from everlode.projection.fold import Key


class Applied(NamedTuple):
    """Where the projector stands in one partition of one topic."""

    topic: str
    partition: int
    seq: int
    stamp: int


class Waiting(NamedTuple):
    """A fact that waits in the projector, for one that is missing or for the control log."""

    topic: str
    offset: int
    value: bytes


@dataclass(slots=True)
class Part:
    """Of one partition number."""

    opened: dict[tuple[str, str], int] = field(default_factory=dict)
    """(topic, scope) → the fence in force."""
    parked: list[Waiting] = field(default_factory=list)
    unpublished: dict[Key, int] = field(default_factory=dict)
    """Key → version of a row whose state may not be in the state topics yet."""


@dataclass(slots=True)
class Noted:
    """Of all of them."""

    applied: dict[tuple[str, int], Applied]
    problems: list[tuple[str, str, int, str]]
    """(kind, topic, partition, key) of what the projector could not fold."""
    parts: defaultdict[int, Part] = field(default_factory=lambda: defaultdict(Part))


def noted(db: Projection, topics: Sequence[str]) -> Noted:
    """Read it, of these topics. Raises: Unavailable; NotFound: there is no such generation."""
    with db.at_one_moment():
        rows = db.query("select topic, part, seq, stamp from {g}.positions")
        problems = db.query(
            "select kind, topic, part, coalesce(key, '') from {g}.problems"
            " order by 1, 2, 3, at_offset"
        )
        applied = [Applied(*row) for row in rows if row[0] in topics]
        found = Noted({(a.topic, a.partition): a for a in applied}, [(*row,) for row in problems])
        for topic, partition, scope, epoch in db.query(
            "select topic, part, scope, epoch from {g}.opened"
        ):
            found.parts[partition].opened[topic, scope] = epoch
        for topic, partition, offset, value in db.query(
            "select topic, part, at_offset, value from {g}.parked order by topic, at_offset"
        ):
            found.parts[partition].parked.append(Waiting(topic, offset, bytes(value)))
        for partition in {a.partition for a in applied}:
            found.parts[partition].unpublished = {
                (component, key): version
                for component, key, version, _ in db.unpublished(partition)
            }
    return found
