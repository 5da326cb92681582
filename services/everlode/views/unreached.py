"""What a takeover could not save: facts of a lost region above its accepted vector, by id.

They are in the lost region's own log, and nowhere else for sure, so an empty list is a proof only
once that has been read to its end; until it answers again, nobody knows. A fact whose command was
carried out by the new owner is on the list, with what that made of it. Shell, but for `listed`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import Any, NamedTuple

from everlode.adapters.kafka import Reader
from everlode.avro.codec import Codec
from everlode.control.fences import Fence, Homecoming, place
from everlode.control.fold import ControlState
from everlode.control.scopes import Scope
from everlode.errors import ContractError, Unavailable
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Fact
from everlode.settings.endpoints import Endpoints, RegionParts
from everlode.state.shape import home_of
from everlode.topics.names import fact_topic, split_fact_topic
from everlode.topics.partition import partition_of
from everlode.topics.place import TopicPartition, placed

ANSWER_S = 5.0
READ_S = 60.0


class Unreached(NamedTuple):
    """A fact that does not count."""

    event_id: str
    event_type: str
    aggregate_id: str
    version: int
    topic: str
    partition: int
    seq: int
    command_id: str | None
    carried_out: str | None
    """Event of the new owner that came of the same command; None: none did."""


def taken_over(endpoints: Endpoints, control: ControlState, scope: str) -> dict[str, Any] | None:
    """What the control log and the lost region's own log say of a scope's takeover, as JSON.

    None: its owner was never fenced. Raises: Unavailable: the new owner's Kafka does not answer.
    """
    fence = next((f for f in control.fences.values() if scope in f.epochs), None)
    if fence is None:
        return None
    led, back = control.scopes[scope], fence.home.get(scope)
    component = Scope.parse(scope).component
    found: dict[str, Any] = {
        "region": fence.region, "fenced_at": fence.offset, "members": fence.members,
        "lacks": fence.lacks(), "level": [m for m in fence.members if fence.level(m)],
        "owner": None if led.region == fence.region and back is None else led.region,
        "returned": not fence.out, "accepted": None, "lost": [], "lost_known": False,
    }  # fmt: skip
    if fence.accepted is None:
        return found
    topic = fact_topic(fence.origin, component)
    own = endpoints.parts(fence.region)
    upto = {(topic, p): fence.accepted.get(place(topic, p), 0) for p in range(own.partitions)}
    found["accepted"] = {place(*at): seq for at, seq in upto.items()}
    try:
        facts = _facts(own, upto)
    except Unavailable:
        return found
    beyond = [fact for fact in facts if not _counts_again(fence, topic, fact, own.partitions)]
    found["lost_known"] = True
    owner = endpoints.parts(_taker(endpoints, back) or led.region)
    at_owner = {(fact_topic(owner.origin, component), p): 0 for p in range(owner.partitions)}
    made = _facts(owner, at_owner) if beyond and found["owner"] else []
    made += [f for f in facts if _counts_again(fence, topic, f, own.partitions)]
    rows = listed(own.partitions, topic, beyond, made, Scope.parse(scope).home)
    found["lost"] = [row._asdict() for row in rows]
    return found


def _taker(endpoints: Endpoints, back: Homecoming | None) -> str | None:
    """The region that had the scope until it went home; None: it has not."""
    origin = split_fact_topic(back.topic)[0] if back is not None else ""
    return next((r for r in endpoints.regions if endpoints.parts(r).origin == origin), None)


def _counts_again(fence: Fence, topic: str, fact: Fact, partitions: int) -> bool:
    """Whether a fact was written after the region has returned."""
    at = place(topic, partition_of(fact.envelope.aggregate_id, partitions))
    return not fence.out and fact.envelope.seq > (fence.ended or {}).get(at, 0)


def listed(
    partitions: int, topic: str, beyond: Iterable[Fact], made: Iterable[Fact], home: str
) -> list[Unreached]:
    """A home's facts beyond the vector, by stamp, each with what the new owner made of its command.

    Pure.
    """
    carried = {
        (f.envelope.aggregate_id, f.envelope.command_id or ""): f.envelope.event_id
        for f in made if f.envelope.command_id
    }  # fmt: skip
    return [
        Unreached(
            e.event_id, type(data).__name__, e.aggregate_id, e.version, topic,
            partition_of(e.aggregate_id, partitions), e.seq, e.command_id,
            carried.get((e.aggregate_id, e.command_id or "")),
        )
        for e, data in sorted(beyond, key=lambda f: f.envelope.stamp)
        if home_of(e) == home and not isinstance(data, Barrier | EpochOpened)
    ]  # fmt: skip


def _facts(parts: RegionParts, after: dict[TopicPartition, int]) -> list[Fact]:
    """A region's own facts behind a `seq` of each partition. Raises: Unavailable.

    A record's offset is never below the number of those before it.
    """
    found: list[Fact] = []
    codec = Codec()
    with closing(Reader(parts.bootstrap, "unreached", wait_ms=50)) as reader:
        bounds = reader.bounds(after, ANSWER_S)
        starts = {at: max(bounds[at][0], min(seq, bounds[at][1])) for at, seq in after.items()}
        for batch in reader.to_bounds(starts, bounds, READ_S):
            for raw in batch:
                try:
                    fact = placed(codec, raw.topic, raw.key, raw.value)
                except ContractError:
                    continue
                if fact.envelope.seq > after[raw.topic, raw.partition]:
                    found.append(fact)
    return found
