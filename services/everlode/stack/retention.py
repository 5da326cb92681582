"""Readers that retention will overtake: what they have not read is removed before they come to it.

A reader's lag in time is the age of the oldest record that it still has to read. Retention removes
a record at the age of `retention.ms`, so lag ÷ retention says how far a reader is on its way to a
loss. It is named from a half on: whoever was away for so long has as long again to come back and
catch up, so there is time to act; and a retention is meant to be three times the longest outage
that is tolerated, so a reader at a half is beyond anything that was planned for. A lag in records
would say nothing of this.

Readers are consumer groups, by what they have committed; primaries whose groups have expired, by
their snapshots; mirrors, by MirrorMaker's own offsets; and projectors, by their positions in
PostgreSQL, whatever their groups say. The writer of a log (a primary, or an own producer) reads
what stands behind its snapshot when it starts next, and begins no log that lacks it. Shell: asks
one cluster.
"""

from __future__ import annotations

import time
from collections.abc import Container, Mapping
from contextlib import closing
from typing import NamedTuple

from everlode.adapters.kafka import Reader
from everlode.adapters.kafka_admin import retentions
from everlode.adapters.kafka_group import group_offsets
from everlode.adapters.postgres_read import Generation
from everlode.avro.codec import Codec
from everlode.errors import NotFound
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.settings.endpoints import RegionEndpoints
from everlode.snapshots.read import marks_of, read_snapshot
from everlode.topics.names import fact_topic, region_of, split_fact_topic

NAMED_FROM = 0.5
"""Lag ÷ retention."""
PROJECTOR, PRIMARY, WRITER = "projector", "group primary.", "writer of "
Positions = Mapping[tuple[str, int], int]
"""(topic, partition) → the next offset that a reader wants, in the cluster that it reads from."""


class Late(NamedTuple):
    """A reader that retention comes near, in one partition. Times in milliseconds."""

    cluster: str
    reader: str
    topic: str
    partition: int
    lag_ms: int
    """Age of the oldest record that it has to read; the retention when all of them are gone."""
    retention_ms: int
    removed: int
    """Offsets that were removed before it had read them."""

    @property
    def hint(self) -> str:
        """The way out."""
        if self.reader.startswith(WRITER):
            origin, component = split_fact_topic(self.topic)
            return (
                "facts that no snapshot has are gone, and it does not start without them: get them"
                f" from another region's copy: everlode recover beginning {component} --region"
                f" {region_of(origin)} --from OTHER"
                if self.removed
                else "start the primary or the program that writes it, which takes a snapshot, or"
                f" raise retention.ms of {self.topic}: without these facts it would not start"
            )
        if self.removed and self.reader.startswith(PRIMARY):
            return (
                "what asked for something there was not carried out: its clients send commands"
                " again; the facts that it missed are in other regions' copies"
            )
        if self.removed:
            return (
                f"what it lacks is no longer in {self.cluster}: a projection is built anew by"
                " everlode recover, a mirror's copy from another region's"
            )
        return (
            f"start {self.reader} again, or raise retention.ms of {self.topic} until it has"
            " caught up"
        )


def groups_of(bootstrap: str) -> dict[str, Positions]:
    """The groups of a cluster, but those of projectors. Raises: Unavailable."""
    found = group_offsets(bootstrap)
    return {f"group {n}": at for n, at in found.items() if not n.startswith(f"{PROJECTOR}.")}


def writers_of(
    region: str, place: RegionEndpoints, partitions: int, groups: Container[str]
) -> dict[str, Positions]:
    """Where the facts begin that each log's snapshot lacks; and how far the region's primaries had
    read that are not among the groups. Raises: Unavailable.

    None of a log that has no snapshot: nobody of ours has written it.
    """
    found: dict[str, Positions] = {}
    all_marks = marks_of(place.kafka_bootstrap, Codec(), place.origin, partitions)
    for component in FACT_COMPONENTS:
        topic = fact_topic(place.origin, component)
        marks = {p: mark for (name, p), mark in all_marks.items() if name == topic}
        if len(marks) < partitions:  # none, or further before the end than is looked
            of_all = read_snapshot(place.kafka_bootstrap, place.origin, component, partitions)
            marks = of_all.marks
        found[WRITER + topic] = {(topic, p): mark.next_offset for p, mark in marks.items()}
        name = f"{PRIMARY}{component}.{region}"
        if name not in groups and 0 in marks:
            found[name] = {(r.topic, r.partition): r.next_offset for r in marks[0].reads}
    return found


def projector_of(region: str, conninfo: str) -> dict[str, Positions]:
    """The region's projector; none before it has begun. Raises: Unavailable."""
    with closing(Generation.current(conninfo)) as db:
        try:
            rows = db.query("select topic, part, next_offset from {g}.positions where seq > 0")
        except NotFound:
            return {}
    return {f"{PROJECTOR} of {region}": {(t, p): at for t, p, at in rows}}


def late_readers(cluster: str, bootstrap: str, readers: Mapping[str, Positions]) -> list[Late]:
    """Those that retention comes near, by reader and partition. Raises: Unavailable."""
    kept = retentions(bootstrap)
    places = sorted({at for of in readers.values() for at in of if at[0] in kept})
    if not places:
        return []
    now_ms = time.time_ns() // 1_000_000
    with closing(Reader(bootstrap, "retention", wait_ms=50)) as source:
        firsts = source.beginnings(places)
        soon = source.at_time({at: now_ms - _named_ms(kept[at[0]]) for at in places})
        found = []
        for name, wanted in sorted(readers.items()):
            behind = {at: n for at, n in wanted.items() if at in soon and n < soon[at]}
            begun = source.first_times({at: max(n, firsts[at]) for at, n in behind.items()})
            for at, offset in sorted(behind.items()):
                removed = _removed(offset, firsts[at])
                found.append((name, at, begun.get(at, now_ms if not removed else 0), removed))
    rows = [
        Late(cluster, name, *at, min(now_ms - written, kept[at[0]]), kept[at[0]], removed)
        for name, at, written, removed in found
    ]
    return [row for row in rows if row.removed or row.lag_ms >= _named_ms(row.retention_ms)]


def _named_ms(retention_ms: int) -> int:
    return round(retention_ms * NAMED_FROM)


def _removed(wanted: int, first: int) -> int:
    """The mark of its last transaction is all that a reader may leave unread at an end."""
    return max(0, first - wanted - 1)
