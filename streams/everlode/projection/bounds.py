"""What counts of fenced regions' facts, for one partition number, by the control log. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from everlode.control.fences import Fences, place
from everlode.control.scopes import COMPONENT_OF
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.topics.names import fact_topic


class After(NamedTuple):
    """Facts of a scope in these epochs wait, unless they are on this topic, until it has come."""

    epoch: int
    """The first of them: the one that the fence opened, or in which the scope is at home again."""
    topic: str
    upto: int | None
    """Its `seq` that is waited for; None: not decided yet."""


class Bounds(NamedTuple):
    """Of one partition number."""

    upto: Mapping[str, int | None]
    """Topic of a fenced region → the last `seq` that counts; None: not decided yet."""
    after: Mapping[str, tuple[After, ...]]
    """Scope that a fenced region owned, or owns again → what its facts of later epochs wait for."""
    ended: Mapping[str, int] = MappingProxyType({})
    """Topic of a region that has returned → the last `seq` that does not count: later ones do."""


FREE = Bounds({}, {})
"""No region is fenced."""


def bounds(fences: Fences, partition: int) -> Bounds:
    """The bounds of a partition number; FREE where nobody is fenced."""
    if not fences:
        return FREE
    upto: dict[str, int | None] = {}
    after: dict[str, tuple[After, ...]] = {}
    ended: dict[str, int] = {}
    for fence in fences.values():
        for component in FACT_COMPONENTS:
            topic = fact_topic(fence.origin, component)
            at = place(topic, partition)
            upto[topic] = None if fence.accepted is None else fence.accepted.get(at, 0)
            if fence.ended is not None and not fence.out:
                ended[topic] = fence.ended.get(at, 0)
        for scope, epoch in fence.epochs.items():
            component = COMPONENT_OF[scope.partition("/")[0]]
            if component in FACT_COMPONENTS:
                topic = fact_topic(fence.origin, component)
                waits = After(epoch, topic, upto[topic])
                after[scope] = (*after.get(scope, ()), waits)
        for scope, back in fence.home.items():
            waits = After(back.epoch, back.topic, back.upto.get(place(back.topic, partition), 0))
            after[scope] = (*after.get(scope, ()), waits)
    return Bounds(upto, after, ended)
