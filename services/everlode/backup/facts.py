"""The facts around a cut, of one partition number: which of them count, and what they show of
positions and fences. Pure.

Kept are those of some seconds before T on, to the moment; of what is read from further back, only
the keys that are looked for. They are given away as they come: here only the openings stay, which
concern all keys.

    log     … 11 12 13 ┊ 14 15 16 17 ┊ 18 19 ┊ 20 …
                 read from here      T       the moment: what follows was not applied
            begun: 13    within: 14 to 17   after: 18, 19
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from everlode.backup.standing import Fence, Standing
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.stamp import millis_of
from everlode.projection.fold import Incoming, Prefix

Keep = Callable[[Incoming, bool], None]
"""Takes a fact that is kept, and whether it is up to T."""


class Window(NamedTuple):
    """Which facts are looked at."""

    stamp: int
    """T."""
    back_ms: int
    """They are read from so long before it."""
    kept_ms: int
    """Those from so long before it on are kept, whosever they are."""
    sought: Collection[str] = ()
    """Aggregates of which all are kept."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the logs of one partition number hold around T, as far as it was applied.

    Of all keys: the openings only; of a slice of them: its facts too (`with_facts`).
    """

    within: tuple[Incoming, ...]
    """Up to T, and not waiting at the moment; each topic's as in its log, without barriers."""
    after: tuple[Incoming, ...]
    """Above T, the same."""
    begun: Mapping[str, tuple[int, int]]
    """Topic → (`seq`, offset) before which the first fact within stands; absent: none was met."""
    positions: Mapping[str, Prefix]
    """Topic → where it stands at T; absent: as it was applied."""
    changed: frozenset[str]
    """Aggregates with a fact after T."""


def sift(items: Iterable[Incoming], standing: Standing, window: Window, keep: Keep) -> Facts:
    """What a cut needs of the facts, as they are read; each topic's in the order of its log.

    Facts that are needed go to `keep`.
    """
    waits = {(w.topic, w.offset) for w in standing.parked}
    kept_ms = millis_of(window.stamp) - window.kept_ms
    within: list[Incoming] = []
    after: list[Incoming] = []
    begun: dict[str, tuple[int, int]] = {}
    positions: dict[str, Prefix] = {}
    changed: set[str] = set()
    for item in items:
        envelope, data = item.fact
        topic = item.topic
        if topic not in standing.applied or envelope.seq > standing.applied[topic].seq:
            continue
        inside = envelope.stamp <= window.stamp
        # the very first too: then nothing of the topic is in the cut
        if topic not in begun and (inside or envelope.seq == 1):
            begun[topic] = (envelope.seq - 1, item.offset)
            positions[topic] = Prefix(envelope.seq - 1, 0, item.offset)
        if (topic, item.offset) in waits:
            continue
        if inside:
            _move(positions[topic], item)
        if isinstance(data, EpochOpened):
            (within if inside else after).append(item)
        elif not isinstance(data, Barrier):
            if not inside:
                changed.add(envelope.aggregate_id)
            if millis_of(envelope.stamp) >= kept_ms or envelope.aggregate_id in window.sought:
                keep(item, inside)
    return Facts(tuple(within), tuple(after), begun, positions, frozenset(changed))


def _move(position: Prefix, item: Incoming) -> None:
    envelope = item.fact.envelope
    position.seq = max(position.seq, envelope.seq)
    position.stamp = max(position.stamp, envelope.stamp)
    position.next_offset = max(position.next_offset, item.offset + 1)


def begins(stamp: int, standing: Standing, facts: Facts) -> bool:
    """Whether each topic was read from before T: else nobody knows where it stood there.

    One whose log has lost its end stands as it was applied.
    """
    return all(
        a.stamp <= stamp or topic in facts.begun or topic in standing.short
        for topic, a in standing.applied.items()
    )


def positions_at(standing: Standing, facts: Facts) -> dict[str, Prefix]:
    """Where each topic stands at T; one of which no fact within was met as it was applied.

    So does one whose log has lost its end. What was lost of T and after it has changed no row, or
    the cut would not come to that row: so the rest of it is in the cut.
    """
    return {
        topic: Prefix(at.seq, at.stamp, 0)
        if topic in standing.short or topic not in facts.positions
        else facts.positions[topic]
        for topic, at in standing.applied.items()
    }


def in_force(standing: Standing, facts: Facts) -> dict[Fence, int]:
    """The fences before the first of the facts.

    An opening of which nobody noted where it stands was before them, unless it is met among them.
    """
    met = _met((*facts.within, *facts.after))
    found: dict[Fence, int] = {}
    for (topic, scope), openings in standing.openings.items():
        at = standing.applied.get(topic)
        upto = facts.begun[topic][0] if topic in facts.begun else at.seq if at else 0
        before = [
            o.epoch
            for o in openings
            if o.seq <= upto and (o.seq or (topic, scope, o.epoch) not in met)
        ]
        if before:
            found[topic, scope] = max(before)
    return found


def _met(items: Iterable[Incoming]) -> set[tuple[str, str, int]]:
    """(topic, scope, epoch) of the openings among these."""
    return {
        (item.topic, scope.scope, scope.epoch)
        for item in items
        if isinstance(item.fact.data, EpochOpened)
        for scope in item.fact.data.scopes
    }


def fences_at(standing: Standing, facts: Facts) -> dict[Fence, int]:
    """The fences in force at T: those noted up to where each topic stands, and those met within.

    One of which nobody noted where it stands is in force, unless it is met after T.
    """
    positions, after = positions_at(standing, facts), _met(facts.after)
    found: dict[Fence, int] = {}
    for (topic, scope), openings in standing.openings.items():
        upto = positions[topic].seq if topic in positions else 0
        stood = [
            o.epoch
            for o in openings
            if (o.seq <= upto if o.seq else (topic, scope, o.epoch) not in after)
        ]
        if stood:
            found[topic, scope] = max(stood)
    for item in facts.within:
        if isinstance(item.fact.data, EpochOpened):
            for opened in item.fact.data.scopes:
                at = (item.topic, opened.scope)
                found[at] = max(found.get(at, 0), opened.epoch)
    return found


def with_facts(facts: Facts, within: Sequence[Incoming], after: Sequence[Incoming]) -> Facts:
    """The same of some keys: with their facts, and every opening, in the order of each log."""
    return replace(
        facts, within=_in_order(facts.within, within), after=_in_order(facts.after, after)
    )


def _in_order(*found: Iterable[Incoming]) -> tuple[Incoming, ...]:
    return tuple(sorted((i for items in found for i in items), key=lambda i: (i.topic, i.offset)))
