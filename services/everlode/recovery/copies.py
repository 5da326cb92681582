"""What a region's fact log lacks, out of the copies that other clusters hold of it.

A record that comes from another cluster has no offset in this one: it is given a place below 0 that
follows from its `seq`, so that the same record always has the same. Shell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from typing import NamedTuple

from everlode.adapters.kafka import Raw, Reader
from everlode.avro.codec import Codec
from everlode.backup.manifest import CutPosition
from everlode.log.ends import standing
from everlode.recovery.tail import beginnings
from everlode.topics.place import End, TopicPartition

READ_S = 120.0
_ELSEWHERE = -(1 << 50)
"""Below the places of restored states."""


class Fetched(NamedTuple):
    """A record out of a copy, and where it stands in its partition."""

    raw: Raw
    end: End


def is_fetched(raw: Raw) -> bool:
    """Whether a record came out of a copy."""
    return raw.offset <= _ELSEWHERE


class Copies:
    """The copies that other regions hold of the fact logs."""

    def __init__(self, clusters: Mapping[str, str], codec: Codec) -> None:
        """`clusters`: region → bootstrap, those that answer."""
        self._clusters, self._codec = clusters, codec

    def between(
        self, place: TopicPartition, after: End, upto: int, regions: Collection[str] | None = None
    ) -> Iterator[Fetched]:
        """The records of a partition behind `after`, up to `seq` `upto`, as far as copies have it.

        In order of `seq`; what one copy lacks is looked for in the next. Memory: a batch. Raises:
        Unavailable.
        """
        order = list(self._clusters if regions is None else regions)
        if not order:
            return
        first, *others = order
        for one in self._read(first, place, after, upto):
            if one.end.seq <= after.seq:
                continue
            if one.end.seq > after.seq + 1:
                yield from self.between(place, after, one.end.seq - 1, others)
            yield one
            after = one.end
        if after.seq < upto:
            yield from self.between(place, after, upto, others)

    def _read(self, region: str, place: TopicPartition, after: End, upto: int) -> Iterator[Fetched]:
        """One copy's records from there on, up to `upto`."""
        bootstrap = self._clusters[region]
        at = CutPosition(
            topic=place[0], partition=place[1], seq=after.seq, stamp=after.stamp, next_offset=0,
            status="",
        )  # fmt: skip
        tail = beginnings(bootstrap, self._codec, {place: at})
        if place in tail.forks:
            return
        with closing(Reader(bootstrap, "recovery-copy", wait_ms=50)) as reader:
            for batch in reader.to_ends(tail.begins, READ_S):
                for raw in batch:
                    end = standing(self._codec, raw)
                    if end is None:
                        continue
                    if end.seq > upto:
                        return
                    yield Fetched(raw._replace(offset=_ELSEWHERE - end.seq), end)
