"""One stream of events: read from Kafka once, handed to every listener from a bounded ring.

Steps: 1. find the cluster, and where each partition begins and ends. 2. read the last `recent`
records of each. 3. follow. A record is decoded and encoded once, in the reading thread; the ring
belongs to the event loop, so nothing in it is locked. Shell: one thread.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import closing
from typing import NamedTuple

from fastapi.sse import format_sse_event

from everlode.adapters.kafka import Raw, Reader
from everlode.adapters.kafka_offsets import within
from everlode.api.plain import as_json
from everlode.api.positions import Stream
from everlode.api.ring import Cursor, Item, Ring, Wanted
from everlode.avro.cloudevents import source_of
from everlode.avro.codec import Codec
from everlode.errors import ContractError, Refusal, Unavailable
from everlode.events.base import Fact
from everlode.topics.names import region_of
from everlode.topics.place import TopicPartition, placed

KEPT = 20_000
"""Events in a ring; of no listener is more kept than where it stands."""
LISTENERS = 1_000
KEEP_ALIVE_S = 10.0
CATCH_UP_S = 5.0
"""A position may be ahead of this server for so long; then it is of another log."""
READ_S = 10.0
AT_ONCE = 100
SNAPSHOT = "/operations"


class Group(NamedTuple):
    """What a stream is made of."""

    name: str
    bootstrap: str
    places: tuple[TopicPartition, ...]
    recent: int
    """Records of each partition that are read at the start."""


Read = tuple[int, int, Fact | None]
"""Number of the partition, offset, the fact, or None where there is none to be had."""
Fold = Callable[[str, Fact], tuple[str, str]]
"""(topic, fact) → the operation and the scope that it is of, or empty; called once a record."""


class Feed:
    """A stream; `start` it in an event loop, and `close` it there."""

    def __init__(self, group: Group, fold: Fold) -> None:
        self.group, self._fold = group, fold
        self._numbers = {at: number for number, at in enumerate(group.places)}
        self.listeners = 0
        self.stream: Stream | None = None
        self._ring: Ring | None = None
        self._level = False
        self._codec = Codec()
        self._stop = threading.Event()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"feed-{group.name}", daemon=True)

    def start(self) -> Feed:
        """Begin to read."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    @property
    def level(self) -> bool:
        """Whether it has read to the end as it was at the start."""
        return self._level

    def kept(self) -> tuple[list[Item], str]:
        """The events that are kept, oldest first, and the position after them.

        Raises: Unavailable: it has not come to the end yet.
        """
        ring, stream = self._ready()
        return list(ring.kept()), stream.word(ring.heads)

    def require_level(self) -> None:
        """Raises: Unavailable: it has not come to the end yet."""
        self._ready()

    def _ready(self) -> tuple[Ring, Stream]:
        if self._ring is None or self.stream is None or not self._level:
            raise Unavailable(
                f"the stream {self.group.name} is not read yet", code="not_ready",
                hint="ask again in a second",
            )  # fmt: skip
        return self._ring, self.stream

    async def await_level(self) -> None:
        """Return once it is read: a stream is begun when it is first asked for.

        Raises: Unavailable: it is not read in `READ_S`.
        """
        deadline = self._loop.time() + READ_S
        while not self._level and not self._stop.is_set():
            left = deadline - self._loop.time()
            if left <= 0 or not await _within(self._changed, left):
                break
        self._ready()

    async def require_room(self) -> None:
        """Return once it is read.

        Raises: Unavailable: it is not in time, or has as many listeners as it may have.
        """
        await self.await_level()
        if self.listeners >= LISTENERS:
            raise Unavailable(
                f"{LISTENERS} listen already", code="too_many_listeners", hint="ask another server"
            )

    async def listen(self, position: str | None, wanted: Wanted) -> AsyncIterator[bytes]:
        """Server-sent events from a position on; without one from now on.

        First comes where it stands. Each event has the position after it as its id; so has each
        sign of life. One `stale` event instead of what cannot be had any more. It ends when the
        listener is too slow, or the server goes. Raises: Unavailable.
        """
        ring, stream = self._ready()
        self.listeners += 1
        try:
            cursor, stale = await self._begin(ring, stream, position)
            here = stream.word(cursor.offsets)
            if stale is not None:
                yield _stale(stale, here)
            else:
                yield format_sse_event(comment="here", id=here, retry=1000)
            while not self._stop.is_set():
                changed = self._changed
                found = cursor.take(wanted, AT_ONCE)
                if cursor.dropped:
                    return
                if found:
                    yield b"".join(
                        format_sse_event(data_str=item.text, id=stream.word(offsets))
                        for item, offsets in found
                    )
                elif cursor.level and not await _within(changed, KEEP_ALIVE_S):
                    yield format_sse_event(comment="alive", id=stream.word(cursor.offsets))
                elif not cursor.level:
                    await asyncio.sleep(0)  # it passes over what is not wanted: others come first
        finally:
            self.listeners -= 1

    async def _begin(
        self, ring: Ring, stream: Stream, position: str | None
    ) -> tuple[Cursor, Refusal | None]:
        if position is None:
            return Cursor(ring), None
        try:
            cursor = Cursor(ring, stream.offsets(position))
            deadline = self._loop.time() + CATCH_UP_S
            while cursor.ahead:
                left = deadline - self._loop.time()
                if left <= 0 or not await _within(self._changed, left):
                    raise Refusal("the position is beyond the log's end", code="other_position")
        except Refusal as error:
            return Cursor(ring), error
        return cursor, None

    def close(self) -> None:
        """End, and all listeners with it."""
        self._stop.set()
        self._wake()

    # -- in the loop ---------------------------------------------------------------------------

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _opened(self, cluster: str, floors: Sequence[int]) -> None:
        self.stream = Stream(self.group.name, cluster, self.group.places)
        self._ring = Ring(floors, KEPT)

    def _take(self, read: Iterable[Read]) -> None:
        ring = self._ring
        if ring is None:
            return
        for place, offset, fact in read:
            if fact is None or offset < ring.heads[place]:
                ring.passed(place, offset)
                continue
            topic, partition = self.group.places[place]
            operation, scope = self._fold(topic, fact)
            ring.add(item_of(fact, place, (topic, partition, offset), (operation, scope)))
        self._wake()

    def _at_end(self) -> None:
        self._level = True
        self._wake()

    # -- in the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        reader = Reader(self.group.bootstrap, f"feed-{uuid.uuid4()}")
        with closing(reader):
            ends = self._open(reader)
            while not self._stop.is_set():  # 2.
                try:
                    for batch in reader.until(ends, 30):
                        self._hand(batch)
                        if self._stop.is_set():
                            return
                    break
                except Unavailable:
                    continue  # the region is away; what was read stays read
            self._in_loop(self._at_end)
            while not self._stop.is_set():  # 3.
                batch = reader.batch(500, 0.2, 0.0)
                if batch:
                    self._hand(batch)

    def _open(self, reader: Reader) -> dict[TopicPartition, int]:
        places = self.group.places
        while not self._stop.is_set():  # 1.
            try:
                cluster, bounds = reader.cluster_id(5), reader.bounds(places, 5)
            except Unavailable:
                self._stop.wait(1)
                continue
            floors = {at: max(b, end - self.group.recent) for at, (b, end) in bounds.items()}
            self._in_loop(self._opened, cluster, [floors[at] for at in places])
            reader.assign(floors)
            return within(floors, bounds)
        return {}

    def _hand(self, batch: Sequence[Raw]) -> None:
        read = [
            (self._numbers[raw.topic, raw.partition], raw.offset, fact_of(self._codec, raw))
            for raw in batch
        ]
        done = threading.Event()
        self._in_loop(self._take, read, done=done)
        while not done.wait(1) and not self._stop.is_set():
            pass  # the loop is busy: nothing is piled up for it

    def _in_loop(
        self, call: Callable[..., None], *values: object, done: threading.Event | None = None
    ) -> None:
        def run() -> None:
            call(*values)
            if done is not None:
                done.set()

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(run)


async def _within(changed: asyncio.Event, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):  # no task of its own, as wait_for has
            await changed.wait()
    except TimeoutError:
        return False
    return True


def fact_of(codec: Codec, raw: Raw) -> Fact | None:
    """A record's fact; None of one that does not fit or belong."""
    try:
        return placed(codec, raw.topic, raw.key, raw.value)
    except ContractError:
        return None  # whoever sent it has a dead letter; listeners are shown facts


def item_of(fact: Fact, place: int, at: tuple[str, int, int], about: tuple[str, str]) -> Item:
    """An event as listeners get it: a CloudEvent in JSON, its fields with ours beside them. Pure.

    `at`: topic, partition and offset; `about`: the operation and the scope that it is of.
    """
    envelope, data = fact
    operation, scope = about
    kind, region = type(data).__name__, region_of(envelope.origin)
    text = as_json(
        {
            "specversion": "1.0", "id": envelope.event_id, "type": f"everlode.{kind}",
            "source": source_of(envelope.origin, envelope.scope), "subject": envelope.aggregate_id,
            "time": envelope.occurred_at, "datacontenttype": "application/json",
            "region": region, "scope": scope, "operation": operation, "epoch": envelope.epoch,
            "version": envelope.version, "stamp": envelope.stamp, "topic": at[0],
            "partition": at[1], "offset": at[2], "data": data,
        }
    )  # fmt: skip
    return Item(place, at[2], kind, region, scope, operation, text)


def _stale(error: Refusal, here: str) -> bytes:
    body = {"code": error.code, "message": error.message, "snapshot": SNAPSHOT, "position": here}
    return format_sse_event(event="stale", data_str=as_json(body), id=here)
