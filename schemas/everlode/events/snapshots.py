"""What the snapshot of a fact topic is made of; see services' `snapshots` for how it is used.

A snapshot lives in a compacted topic beside its fact topic, in the home region alone. Keys:

    e/<component>/<key>     SnapshotEntry    what is alive; a tombstone once it has ended
    m/<partition>           SnapshotMark     up to where the partition's snapshot reaches
    a/<slot>                SnapshotAnswers  facts of the last commands
    p/<start>               ArchivePage      where ended aggregates stand in the archive

The archive holds one SnapshotEntry for each aggregate that has ended. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from everlode.events.base import ScopeEpoch

ENTRY, MARK, ANSWERS, PAGE = b"e/", b"m/", b"a/", b"p/"
"""What the keys of each kind of record begin with."""


class SnapshotEntry(NamedTuple):
    """One aggregate: its version, its last fact, and its state as bytes; None once deleted."""

    component: str
    key: str
    version: int
    event_id: str
    state: bytes | None


class ReadPosition(NamedTuple):
    """How far one partition was read: `next_offset` is the next record to be read."""

    topic: str
    partition: int
    next_offset: int


class SnapshotMark(NamedTuple):
    """Up to where the snapshot of one partition reaches: all facts up to `seq` are in it."""

    seq: int
    next_offset: int
    stamp: int
    fold_version: int
    answers: int
    epochs: tuple[ScopeEpoch, ...]
    reads: tuple[ReadPosition, ...]


class AnsweredFact(NamedTuple):
    """A fact of a command."""

    aggregate_id: str
    command_id: str
    event_id: str
    event_type: str
    partition: int
    offset: int
    seq: int
    version: int


class SnapshotAnswers(NamedTuple):
    """Facts of commands, oldest first: content `number` of the ring."""

    number: int
    facts: tuple[AnsweredFact, ...]


class ArchivePage(NamedTuple):
    """Hashes and offsets, u64 little-endian, of what ended from `start` to before `end`."""

    start: int
    end: int
    hashes: bytes
    offsets: bytes


SnapshotRecord = SnapshotEntry | SnapshotMark | SnapshotAnswers | ArchivePage
