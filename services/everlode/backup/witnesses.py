"""What else knows how far the logs reached and which fences stood, beside what a cut is made of.

A log that lost its end looks like a whole log, a table that lost a row like one that never had it.
So each is compared with what does not come from it:

| what may have lost something | is compared with |
|---|---|
| the end of a fact log, in the region's cluster | positions: the projector's, the parent's; marks |
| a position | its rows (snapshot); the parent's position, in the same generation |
| the fences | the parent's, and the marks': a fence only rises |

Marks are what the region's own primaries note in their snapshots. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from everlode.backup.manifest import Manifest
from everlode.backup.standing import Applied, Fence, Opening
from everlode.errors import IntegrityError
from everlode.events.snapshots import SnapshotMark
from everlode.events.stamp import millis_of
from everlode.topics.place import End, TopicPartition

Openings = Mapping[int, Mapping[Fence, tuple[Opening, ...]]]
"""Partition → fence → its openings, rising."""


Marks = Mapping[TopicPartition, SnapshotMark]


class Short(NamedTuple):
    """A log that ends before what is known of it, by `seq`."""

    topic: str
    partition: int
    end: int
    known: int


class Witness(NamedTuple):
    """Who knows how far a log reached, and how far."""

    by: str
    at: End


MARK = "its primary's mark"
"""The witness whose stamp is no record's of the log: it is its writer's, of all partitions."""


def short_of(end: End, witnesses: Iterable[Witness]) -> Witness | None:
    """The witness that knows most, of those who know of more than a log's end; None: it is whole.

    By `seq`, or by stamps, which rise with each record: a log that was made again counts anew. A
    mark's stamp says nothing: this partition's last fact may be of before.
    """
    short = [
        one for one in witnesses
        if one.at.seq > end.seq or (one.at.stamp > end.stamp and one.by != MARK)
    ]  # fmt: skip
    return max(short, key=lambda one: one.at, default=None)


def short_logs(
    applied: Mapping[TopicPartition, Applied], parent: Manifest | None, marks: Marks,
    ends: Mapping[TopicPartition, End],
) -> tuple[Short, ...]:  # fmt: skip
    """Logs that do not reach what was applied, the parent's cut, or their writer's mark.

    `ends`: where the logs end, asked after all else; without those that may be empty.
    """
    known = defaultdict[TopicPartition, list[Witness]](list)
    for place, at in applied.items():
        known[place].append(Witness("the projector", End(at.seq, at.stamp)))
    for cut in parent.positions if parent else ():
        known[cut.topic, cut.partition].append(Witness("the parent", End(cut.seq, cut.stamp)))
    for place, mark in marks.items():
        known[place].append(Witness(MARK, End(mark.seq, mark.stamp)))
    found = ((place, end, short_of(end, known[place])) for place, end in sorted(ends.items()))
    return tuple(Short(*place, end.seq, most.at.seq) for place, end, most in found if most)


def as_logged(at: Applied, end: End | None) -> Applied:
    """Where the projector stands, by the log's own count where its last fact is the log's last."""
    if end is None or end.stamp != at.stamp:
        return at
    return at._replace(seq=end.seq)


def is_cut_off(at: Applied, end: End | None) -> bool:
    """Whether a log ends before what was applied of it; stamps rise with each record."""
    return end is not None and end.stamp < at.stamp


def may_be_empty(at: Applied, end_offset: int, kept_since_ms: int) -> bool:
    """Whether a log without a record may be the one that was applied.

    Retention removes what is older than that, and leaves the offset.
    """
    return end_offset >= at.next_offset and millis_of(at.stamp) < kept_since_ms


def require_positions(
    applied: Mapping[TopicPartition, Applied], parent: Manifest | None, generation: int
) -> None:
    """Raises: IntegrityError: a position is before that of the parent, of the same generation."""
    if parent is None or parent.generation != generation:
        return  # facts that nobody has any more may be lost with a generation, by a word
    for at in parent.positions:
        now = applied.get((at.topic, at.partition))
        if (now.seq if now else 0) < at.seq:
            place = f"{at.topic}/{at.partition}"
            known = f"backup {parent.backup_id} knew it at seq {at.seq}"
            raise position_back(place, f"at seq {now.seq}" if now else "not there", known)


def position_back(place: str, now: str, known: str) -> IntegrityError:
    """A position of the projector that is before what it has applied."""
    return IntegrityError(
        f"the position of {place} is {now}, and {known}: the database has lost where it stood",
        code="position_back",
        hint="do not back this generation up: build a new one with everlode recover",
    )


def fences_known(
    parent: Manifest | None, marks: Marks, stamp: int, reached: Mapping[TopicPartition, int]
) -> Iterator[tuple[str, int, str, int]]:
    """(topic, partition, scope, epoch) that stood by then, by the parent and the marks.

    `reached`: up to which `seq` the facts behind the stamp are read. A mark is newer than the cut
    more often than not; what was opened between the two is met there, and so is not taken for older
    (facts.py).
    """
    if parent is not None and parent.cut_stamp <= stamp:
        yield from parent.opened
    for place, mark in marks.items():
        if mark.stamp <= stamp or mark.seq <= reached.get(place, -1):
            for opened in mark.epochs:
                yield (*place, opened.scope, opened.epoch)


def with_fences(
    openings: Openings, known: Iterable[tuple[str, int, str, int]]
) -> tuple[Openings, Collection[tuple[int, Fence]]]:
    """The openings with those that are known otherwise, and which of these fences had been lost.

    Nobody noted where they stand: somewhere before.
    """
    found: defaultdict[int, dict[Fence, tuple[Opening, ...]]] = defaultdict(dict)
    for partition, fences in openings.items():
        found[partition] = dict(fences)
    lost = set()
    for topic, partition, scope, epoch in known:
        there = found[partition].get((topic, scope), ())
        if any(o.epoch == epoch for o in there):
            continue
        if all(o.epoch < epoch for o in there):
            lost.add((partition, (topic, scope)))
        found[partition][topic, scope] = tuple(sorted((*there, Opening(epoch, 0))))
    return found, lost
