"""What the snapshot of a fact topic is made of; see services' `snapshots` for how it is used.

A snapshot lives in a compacted topic beside its fact topic, in the home region alone. Keys:

    e/<component>/<key>     SnapshotEntry    what is alive; a tombstone once it has ended
    m/<partition>           SnapshotMark     up to where the partition's snapshot reaches
    a/<slot>                SnapshotAnswers  facts of the last commands
    p/<start>               ArchivePage      where ended aggregates stand in the archive
    t/<home>/<miner>        SnapshotTally    what the archived validations of a partition say of it

The archive holds one SnapshotEntry for each aggregate that has ended, and one ArchivedSolution for
each solution of an archived validation. The work of a region's miners, an AssignedTask for each
task that one has, is on a topic of its own: its key is `<miner>|<task>`, its partition the miner's.
Pure.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from everlode.events.base import ScopeEpoch

ENTRY, MARK, ANSWERS, PAGE, TALLY = b"e/", b"m/", b"a/", b"p/", b"t/"
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
    content: int = 0
    """What the command asked for, as a digest; 0: not known."""


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


class HandedIn(NamedTuple):
    """A solution as it was handed in; the order is that of the tasks' log."""

    stamp: int
    solution_id: str
    solution_sha256: str
    payload_sha256: str
    planted_sha256: str | None
    miner_id: str
    task_id: str
    validation_id: str


class ArchivedSolution(NamedTuple):
    """Who handed a solution in first, of the archived validations of one partition."""

    home: str
    solution_sha256: str
    first: tuple[HandedIn, ...]


class SnapshotTally(NamedTuple):
    """What the archived validations of one partition, before offset `end`, say of a miner."""

    home: str
    miner_id: str
    end: int
    honeypots_right: int
    honeypots_wrong: int
    work_right: int
    work_wrong: int
    reviews_right: int
    reviews_wrong: int
    work_worth_micro: int = 0
    reviews_worth_micro: int = 0


class AssignedTask(NamedTuple):
    """A task that a miner has now; a tombstone follows once it has it no more."""

    task_id: str
    miner_id: str
    first_attempt: int
    """With the task it tells one assignment from another."""
    attempt: int
    """To report under; rises when the task goes to another managing node."""
    task_type: str
    payload_uri: str
    payload_sha256: str
    payload_bytes: int
    progress_ppm: int
    checkpoint_uri: str | None
    assigned_at: datetime


def work_key(miner_id: str, task_id: str) -> bytes:
    """Key of an assigned task's records; no miner's name holds the separator."""
    return f"{miner_id}|{task_id}".encode()


SnapshotRecord = (
    SnapshotEntry
    | SnapshotMark
    | SnapshotAnswers
    | ArchivePage
    | ArchivedSolution
    | SnapshotTally
    | AssignedTask
)
