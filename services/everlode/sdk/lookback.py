"""Reading a partition backwards, for the last facts about one aggregate. Shell.

Kafka finds no record by its key. A partition is read in pieces from its end, the newest first, each
four times as long as the one before; keys are compared before anything is decoded. So what it costs
follows the age of what is looked for, not the length of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from everlode.adapters.kafka import Raw, Reader
from everlode.avro.codec import Codec
from everlode.errors import ContractError
from everlode.events.base import Fact
from everlode.topics.place import TopicPartition, placed

FIRST = 2_000
"""Offsets in the newest piece."""
LONGER = 4
PIECE_S = 120.0
"""A piece that takes longer to read is not to be had now."""


def decoded(codec: Codec, raw: Raw) -> Fact | None:
    """The record's fact, or None: what does not fit concerns nobody who follows an aggregate."""
    try:
        return placed(codec, raw.topic, raw.key, raw.value)
    except ContractError:
        return None


def pieces(
    reader: Reader, at: TopicPartition, end: int, wanted: Callable[[Raw], bool]
) -> Iterator[list[Raw]]:
    """The wanted records before `end`, newest piece first, each in log order.

    Takes the reader's assignment over, and leaves it without one. Raises: Unavailable.
    """
    begin, size = reader.beginnings([at])[at], FIRST
    while end > begin:
        start = max(begin, end - size)
        reader.assign({at: start})
        read = (raw for batch in reader.until({at: end}, PIECE_S) for raw in batch)
        yield [raw for raw in read if raw.offset < end and wanted(raw)]
        reader.assign({})
        end, size = start, size * LONGER


def last_facts(
    reader: Reader, at: TopicPartition, key: str, enough: Callable[[Fact], bool], end: int
) -> list[tuple[int, Fact]]:
    """The last facts about an aggregate before `end`, oldest first, each with its offset.

    They begin with the last that is `enough`, or with the first that is kept. Raises: Unavailable.
    """
    codec, wanted = Codec(), key.encode()
    found: list[tuple[int, Fact]] = []
    for piece in pieces(reader, at, end, lambda raw: raw.key == wanted):
        for raw in reversed(piece):
            fact = decoded(codec, raw)
            if fact is None:
                continue
            found.insert(0, (raw.offset, fact))
            if enough(fact) or fact.envelope.version == 1:
                return found
    return found
