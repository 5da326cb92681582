"""Is what a region's stores hold what others know of it? Nothing is asked of a thing itself.

A store that has lost something looks like one that never had it. So each is compared with what
does not come from it; the cut is that of the newest backup:

| what | is compared with |
|---|---|
| the end of a fact log | the projector's position, the cut's, the primary's mark, the copies |
| topics | the ids that the cut noted |
| positions | the rows, the cut's, the logs that have records |
| fences | the cut's, the primary's mark, the other regions' |
| the current generation | the control log's, the cut's, the tables that there are |
| states and rows | each other, all of them (pairs.py) |

Invariant (must, of who asks): witnesses are asked before what they speak of, which only grows.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from everlode.backup.manifest import Manifest
from everlode.backup.witnesses import MARK, Witness, short_of
from everlode.events.snapshots import SnapshotMark
from everlode.events.stamp import millis_of
from everlode.topics.names import region_of, split_fact_topic
from everlode.topics.place import End, TopicPartition

ANEW = "build a new generation with everlode recover"
BACK = "bring the broker's data back, or everlode recover fetches what other regions have"
FenceAt = tuple[str, int, str]
"""Topic, partition, scope."""


class Finding(NamedTuple):
    """Something that others know otherwise."""

    region: str
    kind: str
    """Stable, for programs: see docs/damage.md."""
    where: str
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class Stores:
    """What one region's stores hold."""

    region: str
    generation: int = 1
    is_made: bool = False
    """Whether the generation's tables are there."""
    positions: Mapping[TopicPartition, End] = field(default_factory=dict)
    fences: Mapping[FenceAt, int] = field(default_factory=dict)
    openings: Mapping[tuple[str, int, str, int], int] = field(default_factory=dict)
    """(topic, partition, scope, epoch) → `seq` where it was opened, as far as it was noted."""
    rows_ahead: Mapping[TopicPartition, int] = field(default_factory=dict)
    """`seq` of the furthest row, where that is behind its position."""
    marks: Mapping[TopicPartition, SnapshotMark] = field(default_factory=dict)
    """Of the region's own primaries, in their snapshots."""
    ends: Mapping[TopicPartition, End] = field(default_factory=dict)
    """Where the fact logs in its cluster end."""
    ids: Mapping[str, str] = field(default_factory=dict)
    """Topic → the cluster's id of it."""


class Known(NamedTuple):
    """What is known of a region outside it."""

    cut: Manifest | None
    """Its newest backup, by the control log."""
    switched: int
    """The generation that the control log decided on; 0: none yet."""
    retention_ms: int
    now_ms: int


def compare(held: Stores, ends: Mapping[TopicPartition, End], others: Sequence[Stores],
            known: Known) -> list[Finding]:  # fmt: skip
    """All findings about a region. `ends`: where its logs end, asked after all else."""
    return [
        *_logs(held, ends, others, known),
        *_topics(held, known.cut),
        *_generations(held, known),
        *_positions(held, known.cut),
        *_fences(held, others, known.cut),
    ]


def _logs(
    held: Stores, ends: Mapping[TopicPartition, End], others: Sequence[Stores], known: Known
) -> Iterator[Finding]:
    cut = known.cut.positions if known.cut else ()
    at_cut = {(at.topic, at.partition): End(at.seq, at.stamp) for at in cut}
    for place, end in sorted(ends.items()):
        witnesses = [
            Witness("the projector's position", held.positions.get(place, End())),
            Witness("the newest backup", at_cut.get(place, End())),
        ]
        if mark := held.marks.get(place):
            witnesses.append(Witness(MARK, End(mark.seq, mark.stamp)))
        if region_of(split_fact_topic(place[0])[0]) == held.region:
            witnesses += (Witness(f"{o.region}'s copy", o.ends.get(place, End())) for o in others)
        most = short_of(end, witnesses)
        removed_before = known.now_ms - known.retention_ms
        if most and (end.seq or millis_of(most.at.stamp) >= removed_before):
            text = f"ends at seq {end.seq}, and {most.by} knows seq {most.at.seq}"
            yield Finding(held.region, "log_short", _name(place), text, BACK)


def _topics(held: Stores, cut: Manifest | None) -> Iterator[Finding]:
    for topic in cut.topics if cut else ():
        now = held.ids.get(topic.name, "")
        if topic.topic_id and now and now != topic.topic_id:
            text = "was made again since the newest backup: what it held before is gone"
            yield Finding(held.region, "topic_made_again", topic.name, text, BACK)


def _generations(held: Stores, known: Known) -> Iterator[Finding]:
    of_cut = known.cut.generation if known.cut else 0
    wanted = max(of_cut, known.switched)
    where = f"generation {held.generation}"
    if held.generation < wanted:
        text = f"is current in the database, and generation {wanted} was already"
        yield Finding(held.region, "generation_back", where, text, ANEW)
    elif not held.is_made and (wanted or held.generation > 1):
        text = "is current in the database, which has no such tables"
        yield Finding(held.region, "generation_lost", where, text, ANEW)


def _positions(held: Stores, cut: Manifest | None) -> Iterator[Finding]:
    back: dict[TopicPartition, str] = {
        place: f"a row has what seq {seq} changed" for place, seq in held.rows_ahead.items()
    }
    if cut is not None and cut.generation == held.generation:
        for at in cut.positions:
            place = (at.topic, at.partition)
            if held.positions.get(place, End()).seq < at.seq:
                back.setdefault(place, f"the newest backup knew it at seq {at.seq}")
    for place, why in sorted(back.items()):
        text = f"the position is at seq {held.positions.get(place, End()).seq}, and {why}"
        yield Finding(held.region, "position_back", _name(place), text, ANEW)
    if not held.positions:
        return
    for place, end in sorted(held.ends.items()):
        if end.seq and place not in held.positions and place not in back:
            text = "the log has records, and the projector has no position there"
            hint = "start the projector with the topology that names it: everlode projector run"
            yield Finding(held.region, "position_missing", _name(place), text, hint)


def _fences(held: Stores, others: Sequence[Stores], cut: Manifest | None) -> Iterator[Finding]:
    """An epoch that was opened at or before a position is over for it."""
    wanted: dict[FenceAt, tuple[int, str]] = {}
    for at, epoch, seq, by in _fences_known(held, others, cut):
        position = held.positions.get(at[:2])
        if position is not None and seq <= position.seq and epoch > wanted.get(at, (0, ""))[0]:
            wanted[at] = epoch, by
    for (topic, partition, scope), (epoch, by) in sorted(wanted.items()):
        have = held.fences.get((topic, partition, scope), 0)
        if have < epoch:
            text = f"the fence of {scope} is at epoch {have}, and {by} knows epoch {epoch}"
            yield Finding(held.region, "fence_lost", _name((topic, partition)), text, ANEW)


def _fences_known(
    held: Stores, others: Sequence[Stores], cut: Manifest | None
) -> Iterator[tuple[FenceAt, int, int, str]]:
    """Each fence with its epoch, a `seq` by which it stood, and who knows it."""
    at_cut = {(at.topic, at.partition): at.seq for at in cut.positions} if cut else {}
    for topic, partition, scope, epoch in cut.opened if cut else ():
        seq = at_cut.get((topic, partition), 0)
        yield (topic, partition, scope), epoch, seq, "the newest backup"
    for place, mark in held.marks.items():
        for opened in mark.epochs:
            yield (*place, opened.scope), opened.epoch, mark.seq, MARK
    for other in others:
        for (topic, partition, scope, epoch), seq in other.openings.items():
            if seq:
                yield (topic, partition, scope), epoch, seq, f"{other.region}'s projection"


def _name(place: TopicPartition) -> str:
    return f"{place[0]}/{place[1]}"
