"""What a server knows of its network: the control log, its region's projection, its streams.

Invariants: nothing is opened for one request: connections, readers and the client of commands are
kept and shared. The server answers from its start on; what it does not know yet is `Unavailable`.
Shell.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from everlode.adapters.kafka import Reader
from everlode.adapters.kafka_control import ControlLog
from everlode.adapters.kafka_follower import ControlFollower
from everlode.adapters.postgres_pool import ReadPool
from everlode.api.feed import Feed, Group
from everlode.api.history import History, Key, numbers
from everlode.control.fold import ControlState
from everlode.errors import NotFound, Unavailable
from everlode.events.base import Fact
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.control import BackupMade
from everlode.operators.desk import Desk
from everlode.sdk import AsyncMiningClient
from everlode.sdk.consumer import places
from everlode.settings.endpoints import Endpoints
from everlode.topics.names import region_of, split_fact_topic
from everlode.topics.place import TopicPartition
from everlode.views.backups import Shown
from everlode.views.clusters import KINDS, Asked, cluster
from everlode.views.operations import Operations, about

MACHINERY = "machinery"
"""The stream of recoveries and health; the others are named as their components."""
STREAMS = (MACHINERY, *FACT_COMPONENTS)
RECENT = 10_000
CONTROL_S = 10.0
LOOK_S = 0.1
Row = dict[str, Any]


class ServedRegion(NamedTuple):
    """Where a server stands."""

    endpoints: Endpoints
    region: str
    backups: Callable[[str, BackupMade | None], Shown] | None = None
    """(region, its newest by the control log) → its backups; None: there is no store."""
    explained: Callable[[str], tuple[Row, list[Row]]] | None = None
    """Scope → what `everlode scope explain` says, and its decisions; None: nobody can say."""


class Network:
    """Open it in the event loop, `close` it there."""

    def __init__(self, place: ServedRegion) -> None:
        self.endpoints, self.region, self.backups, self.explained = place
        self.operations = Operations()
        self.verdicts: dict[tuple[str, str], int] = {}
        """(region, type) → events of health since the oldest that is kept."""
        self.client: AsyncMiningClient | None = None
        self.history = History(self._figures)
        self._pools: dict[str, ReadPool] = {}
        self._readers: dict[str, SimpleQueue[Reader]] = {}
        self._feeds: dict[str, Feed] = {}
        self._follower: ControlFollower | None = None
        self._log: ControlLog | None = None
        self._guard, self._stop = threading.Lock(), threading.Event()

    def open(self) -> None:
        """Begin to follow; returns at once."""
        self.feed(MACHINERY)
        threading.Thread(target=self._follow, name="serve-control", daemon=True).start()
        threading.Thread(
            target=self.history.follow, args=(self._stop,), name="serve-figures", daemon=True
        ).start()

    def _follow(self) -> None:
        while not self._stop.is_set():
            follower = ControlFollower(self.endpoints.control())
            try:
                self._follower = follower.start(CONTROL_S)
                return
            except Unavailable:
                follower.close()
                self._stop.wait(1)

    async def connect(self) -> AsyncMiningClient:
        """The client that sends commands; opened when it is first needed."""
        if self.client is None:
            client = AsyncMiningClient(self.endpoints, self.region, f"serve-{self.region}")
            await client.__aenter__()
            self.client = client
        return self.client

    # -- what is known ------------------------------------------------------------------------

    def control(self) -> ControlState:
        """The control log as it is now. Raises: Unavailable; IntegrityError: it is damaged."""
        if self._follower is None:
            raise Unavailable("the control log is not read yet", code="not_ready")
        if self._follower.error is not None:
            raise self._follower.error
        return self._follower.state

    async def await_read(self) -> None:
        """Return once the control log and the stream of recoveries are read.

        Raises: Unavailable: they are not in `CONTROL_S`; as `control` does.
        """
        await self.feed(MACHINERY).await_level()
        deadline = time.monotonic() + CONTROL_S
        while self._follower is None and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_S)
        self.control()

    def desk(self) -> Desk:
        """Where its operators ask. Raises: as `control` does."""
        self.control()
        assert self._follower is not None  # noqa: S101 - it is read
        with self._guard:
            if self._log is None:
                self._log = ControlLog(self.endpoints.control())
        return Desk(self.endpoints, self._follower, self._log)

    def require_region(self, region: str) -> str:
        """The region itself. Raises: NotFound."""
        if region not in self.endpoints.regions:
            known = ", ".join(self.endpoints.regions)
            raise NotFound(f"no region is named {region!r}", hint=f"there are: {known}")
        return region

    @contextmanager
    def asked(self, region: str | None = None) -> Iterator[tuple[Asked, int]]:
        """A region's projection, this server's own without one, and its generation.

        Raises: Unavailable; NotFound: no such region.
        """
        name = self.require_region(region or self.region)
        with self._guard:
            if name not in self._pools:
                place = self.endpoints.regions[name]
                self._pools[name] = ReadPool(place.postgres_conninfo())
        with self._pools[name].current() as tables:
            origin = self.endpoints.regions[name].origin
            now_ms = time.time_ns() // 1_000_000
            yield Asked(tables.query, name, origin, now_ms, self.control()), tables.generation

    @contextmanager
    def reader(self, region: str) -> Iterator[Reader]:
        """A reader of a region's cluster, for one at a time; kept afterwards."""
        with self._guard:
            idle = self._readers.setdefault(region, SimpleQueue())
        try:
            reader = idle.get_nowait()
        except Empty:
            bootstrap = self.endpoints.regions[region].kafka_bootstrap
            reader = Reader(bootstrap, "serve", wait_ms=20)
        try:
            yield reader
        finally:
            reader.assign({})
            idle.put(reader)

    def _figures(self) -> dict[Key, float]:
        """The figures of this region's clusters. Raises: Unavailable; NotFound."""
        with self.asked() as (asked, _):
            found = (numbers(kind, cluster(kind, asked)) for kind in KINDS)
            return {key: value for each in found for key, value in each.items()}

    # -- streams ------------------------------------------------------------------------------

    def feed(self, name: str) -> Feed:
        """A stream of this region's cluster, which has all regions'; read once it is asked for."""
        if name not in self._feeds:
            found = places_of(self.endpoints, name)
            bootstrap = self.endpoints.regions[self.region].kafka_bootstrap
            recent = RECENT if name == MACHINERY else RECENT // len(found)
            self._feeds[name] = Feed(Group(name, bootstrap, found, recent), self._fold).start()
        return self._feeds[name]

    def listeners(self) -> dict[str, int]:
        """Stream → how many listen to it."""
        return {name: feed.listeners for name, feed in self._feeds.items()}

    def _fold(self, topic: str, fact: Fact) -> tuple[str, str]:
        if split_fact_topic(topic)[1] == "health":
            key = region_of(fact.envelope.origin), type(fact.data).__name__
            self.verdicts[key] = self.verdicts.get(key, 0) + 1
        return about(self.operations, topic, fact)

    async def close(self) -> None:
        """End the streams, then let go of all that is kept."""
        self._stop.set()
        self.end_streams()
        if self.client is not None:
            await self.client.aclose()
        if self._follower is not None:
            self._follower.close()
        if self._log is not None:
            self._log.close()
        for pool in self._pools.values():
            pool.close()
        for idle in self._readers.values():
            with suppress(Empty):
                while True:
                    idle.get_nowait().close()

    def end_streams(self) -> None:
        """End all listeners, so that their connections can close."""
        for feed in self._feeds.values():
            feed.close()


def places_of(endpoints: Endpoints, name: str) -> tuple[TopicPartition, ...]:
    """The partitions of a stream, in the order that positions have them. Pure."""
    components = ("recovery", "health") if name == MACHINERY else (name,)
    return tuple(
        at for region in endpoints.topology.regions for at in places(endpoints, region, components)
    )
