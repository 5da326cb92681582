"""A stream of events for one reader at a terminal: what `/events` gives, without a server.

Positions are those of `/events`, so that either goes on where the other ended. Steps: 1. ask where
each partition begins and ends, and judge the position by it. 2. read: recoveries from their
beginning, since an event's operation and scope may have been named long before it; else from the
position. 3. hand out what is wanted from the position on, in the order of each partition. Shell.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from everlode.adapters.kafka import Raw, Reader
from everlode.adapters.kafka_offsets import within
from everlode.api.feed import fact_of, item_of
from everlode.api.network import MACHINERY, RECENT, places_of
from everlode.api.positions import Stream
from everlode.api.ring import Item, Wanted
from everlode.avro.codec import Codec
from everlode.errors import Refusal
from everlode.settings.endpoints import Endpoints
from everlode.topics.place import TopicPartition
from everlode.views.operations import Operations, about

BEGINNING, END = "beginning", "end"
STILL_S = 30.0
Bounds = Mapping[TopicPartition, tuple[int, int]]


class Event(NamedTuple):
    """An event, and the position after it."""

    item: Item
    position: str


def begun(stream: Stream, bounds: Bounds, position: str | None) -> list[int]:
    """The offsets that a position stands for; without one those of the last `RECENT` records. Pure.

    Raises: Refusal: `bad_position`, `other_position`: see `Stream.offsets`, or it is beyond the
    log's end; `position_expired`: what came after it is no longer kept.
    """
    here = [bounds[at] for at in stream.places]
    if position in (BEGINNING, END):
        return [begin if position == BEGINNING else end for begin, end in here]
    if position is None:
        each = max(1, RECENT // len(here))
        return [max(begin, end - each) for begin, end in here]
    found = stream.offsets(position)
    for offset, (begin, end) in zip(found, here, strict=True):
        if offset < begin:
            raise Refusal(
                "what came after the position is no longer kept", code="position_expired",
                hint=f"--position {BEGINNING} reads all that is kept",
            )  # fmt: skip
        if offset > end:
            raise Refusal("the position is beyond the log's end", code="other_position")
    return found


class Tail:
    """Of one stream in one region's cluster, which has all regions' events; `close` it."""

    def __init__(self, endpoints: Endpoints, region: str, of: str, position: str | None) -> None:
        """1. Raises: ConfigError: no such region. Unavailable. Refusal: see `begun`."""
        places = places_of(endpoints, of)
        bootstrap = endpoints.parts(region).bootstrap
        self._reader = Reader(bootstrap, f"tail-{uuid.uuid4()}")
        try:
            self._bounds = self._reader.bounds(places)
            self._stream = Stream(of, self._reader.cluster_id(), places)
            self._offsets = begun(self._stream, self._bounds, position)
        except BaseException:
            self._reader.close()
            raise
        self._numbers = {at: number for number, at in enumerate(places)}
        self._codec, self._operations = Codec(), Operations()

    @property
    def position(self) -> str:
        """Where to go on after the last event that was handed out or passed over."""
        return self._stream.word(self._offsets)

    def kept(self, wanted: Wanted) -> Iterator[Event]:
        """The wanted events from the position to the log's end as it was. Raises: Unavailable."""
        starts = {at: self._offsets[number] for at, number in self._numbers.items()}
        if self._stream.name == MACHINERY:
            starts = {at: self._bounds[at][0] for at in starts}
        self._reader.assign(starts)  # 2.
        for batch in self._reader.until(within(starts, self._bounds), STILL_S):
            yield from self._taken(batch, wanted)
        for at, number in self._numbers.items():  # behind the last record may be marks of ours
            self._offsets[number] = max(self._offsets[number], self._bounds[at][1])

    def following(self, wanted: Wanted) -> Iterator[Event]:
        """Those that come after all of `kept`, for ever."""
        while True:
            yield from self._taken(self._reader.batch(500, 0.2, 0.0), wanted)

    def _taken(self, batch: Sequence[Raw], wanted: Wanted) -> Iterator[Event]:
        for raw in batch:  # 3.
            number = self._numbers[raw.topic, raw.partition]
            fact = fact_of(self._codec, raw)
            found = about(self._operations, raw.topic, fact) if fact else ("", "")
            if raw.offset < self._offsets[number]:
                continue  # it was read for what it says of later ones
            self._offsets[number] = raw.offset + 1
            if fact is None:
                continue
            item = item_of(fact, number, (raw.topic, raw.partition, raw.offset), found)
            if wanted.has(item):
                yield Event(item, self.position)

    def close(self) -> None:
        """Leave."""
        self._reader.close()
