"""A region's copy of another region's facts: how far it reaches, and what it lacks, fetched.

A mirror copies in order, so a copy ends at a `seq`; what is missing behind it is appended in order,
as it stands in another copy, in transactions of an id that belongs to the copy, so that a leveller
that slept writes nothing any more. Whoever reads the copy knows a record by its `seq`, so a mirror
that brings the same ones later does no harm. Shell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from everlode.adapters.kafka import Reader, Record
from everlode.adapters.kafka_writer import Writer
from everlode.avro.codec import Codec
from everlode.control.fences import Vector, place
from everlode.errors import IntegrityError
from everlode.events.base import Position
from everlode.log.ends import ends_of, standing
from everlode.log.facts import writer_id
from everlode.topics.place import End, TopicPartition

READ_S = 60.0
MARGIN = 64
"""Offsets of a copy that are no records: the ends of its mirror's transactions, and barriers."""


def reach(bootstrap: str, codec: Codec, places: list[TopicPartition]) -> tuple[Position, ...]:
    """The last `seq` of each place in a region's own copy, sorted. Raises: Unavailable."""
    found = ends_of(bootstrap, codec, places)
    return tuple(
        Position(topic=topic, partition=partition, seq=end.seq)
        for (topic, partition), end in sorted(found.items())
    )


def end_writer(bootstrap: str, origin: str, component: str) -> None:
    """Whoever wrote an origin's facts of a component writes no more: what it left open is undone.

    Raises: Unavailable.
    """
    writer = Writer(bootstrap, writer_id(component, origin))
    writer.open()
    writer.abandon()


def fetch(own: str, donor: str, codec: Codec, at: TopicPartition, upto: int) -> int:
    """Append to the copy of one place in `own` what it lacks up to `seq` `upto`, from `donor`'s.

    Both are bootstrap addresses. Returns how many records. Raises: Unavailable: a Kafka does not
    answer; FencedOut: another process does it. IntegrityError: the donor lacks some, too.
    """
    writer = Writer(own, f"level.{place(*at)}")
    writer.open()  # nobody else appends from here on, but the mirror, which brings the same
    have = ends_of(own, codec, [at])[at].seq
    if have >= upto:
        return 0
    records: list[Record] = []
    for record, end in _behind(donor, codec, at, have, upto):
        if end.seq != have + 1:
            raise IntegrityError(f"{donor}: {place(*at)}: seq {end.seq} follows {have}")
        records.append(record)
        have = end.seq
    if have < upto:
        raise IntegrityError(f"{donor}: {place(*at)}: seq {have} is the last, {upto} is wanted")
    writer.write(records)
    return len(records)


def _behind(
    bootstrap: str, codec: Codec, at: TopicPartition, after: int, upto: int
) -> Iterator[tuple[Record, End]]:
    """The records behind a `seq`, each once: a copy that was levelled may have some twice."""
    with closing(Reader(bootstrap, "level", wait_ms=50)) as reader:
        begin, end = reader.bounds([at])[at]
        for start in (max(begin, end - 2 * (upto - after) - MARGIN), begin):
            first, last = True, after
            for batch in reader.to_bounds({at: start}, {at: (begin, end)}, READ_S):
                for raw in batch:
                    stands = standing(codec, raw)
                    if stands is None:
                        continue
                    if first and stands.seq > after + 1 and start > begin:
                        break
                    first = False
                    if last < stands.seq <= upto:
                        last = stands.seq
                        yield (
                            Record(raw.topic, raw.partition, raw.key, raw.value, raw.headers),
                            stands,
                        )
                else:
                    continue
                break
            if not first:
                return


def at_of(key: str) -> TopicPartition:
    """The partition of a vector's key."""
    topic, _, partition = key.rpartition("/")
    return topic, int(partition)


def lacks(vector: Vector) -> list[tuple[TopicPartition, int]]:
    """A vector as partitions, each with a `seq`, sorted."""
    return sorted((at_of(key), seq) for key, seq in vector.items())
