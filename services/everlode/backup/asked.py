"""Asks, at the moment of a backup, what else knows how far the logs reached and which fences stood.

Order (must): the moment and the marks before the logs' ends, which only grow. Marks may be older
than the moment: they know less then, and nothing that is wrong. What the answers mean is
witnesses.py's. Shell.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from typing import NamedTuple

from everlode.adapters.kafka import Reader
from everlode.avro.codec import Codec
from everlode.backup.manifest import Manifest
from everlode.backup.snapshot import Moment
from everlode.backup.witnesses import (
    Openings,
    Short,
    fences_known,
    may_be_empty,
    short_logs,
    with_fences,
)
from everlode.events.control import BackupMade
from everlode.events.snapshots import SnapshotMark
from everlode.log.ends import ends_of
from everlode.snapshots.read import marks_of
from everlode.topics import Topology
from everlode.topics.place import End, TopicPartition


class Source(NamedTuple):
    """The region that is backed up."""

    region: str
    bootstrap: str
    conninfo: str
    topology: Topology
    noted: BackupMade | None = None
    """Its newest backup, as the control log notes it."""


class Witnessed(NamedTuple):
    """What others know."""

    ends: Mapping[TopicPartition, End]
    """Where the logs end of which anything was applied; without those that may be empty."""
    short: tuple[Short, ...]
    openings: Openings
    """Those of the moment, and those that only others know."""
    fences_lost: int
    """Of how many fences only others know."""


def own_marks(source: Source, codec: Codec) -> dict[TopicPartition, SnapshotMark]:
    """The newest marks of the region's own primaries. Raises: Unavailable."""
    topology = source.topology
    return marks_of(source.bootstrap, codec, topology.origin(source.region), topology.partitions)


def ask(
    source: Source,
    codec: Codec,
    moment: Moment,
    parent: Manifest | None,
    marks: Mapping[TopicPartition, SnapshotMark],
) -> Witnessed:
    """Ask the logs, and compare them with the parent and the marks. Raises: Unavailable."""
    ends = _ends(source, codec, moment)
    short = short_logs(moment.applied, parent, marks, ends)
    cut_off = {(log.topic, log.partition) for log in short}
    reached = {place: at.seq for place, at in moment.applied.items() if place not in cut_off}
    known = fences_known(parent, marks, moment.chosen.stamp, reached)
    openings, lost = with_fences(moment.openings, known)
    return Witnessed(ends, short, openings, len(lost))


def _ends(source: Source, codec: Codec, moment: Moment) -> dict[TopicPartition, End]:
    applied = {place: at for place, at in moment.applied.items() if at.seq}
    found = ends_of(source.bootstrap, codec, applied)
    empty = [place for place, end in found.items() if not end.seq]
    if not empty:
        return found
    kept_since_ms = time.time_ns() // 1_000_000 - source.topology.retention_ms
    with closing(Reader(source.bootstrap, "ends")) as reader:
        offsets = reader.ends(empty)
    for place in empty:
        if may_be_empty(applied[place], offsets[place], kept_since_ms):
            del found[place]
    return found
