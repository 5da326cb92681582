"""Who listens, in a process of its own: many to a server's `/events`, or one EventConsumer.

`listeners ADDRESS PATH COUNT` or `consumer STACK REGION COMPONENT`. Prints `ready`; after
a line on standard input prints JSON: `seen`, subject → monotonic seconds at which each listener had
it, and `more_bytes`, what one more consumer holds resident.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from urllib.parse import urlsplit

import psutil

from everlode.sdk import EventConsumer
from everlode.settings.endpoints import Endpoints

SUBJECT = re.compile(rb'"subject":"([^"]+)"')
AT_ONCE = 50
"""Connections that are opened at the same time."""
MORE = 10
Seen = defaultdict[str, list[float]]


class Listener(asyncio.Protocol):
    """One connection; reads what it must to know which events came."""

    def __init__(self, request: bytes, seen: Seen) -> None:
        self._request, self._seen, self._rest = request, seen, b""
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See Protocol."""
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """See Protocol."""
        now = time.monotonic()
        self._rest += data
        if not self.answered.done() and b": here" in self._rest:
            self.answered.set_result(self._rest)
        end = 0
        for found in SUBJECT.finditer(self._rest):
            self._seen[found[1].decode()].append(now)
            end = found.end()
        self._rest = self._rest[end:]

    def connection_lost(self, exc: Exception | None) -> None:
        """See Protocol."""
        if not self.answered.done():
            self.answered.set_exception(ConnectionError(f"refused: {self._rest[:300]!r}"))


async def listen(address: str, path: str, count: int) -> Seen:
    """Open all, say so, and read until a line comes."""
    seen: Seen = defaultdict(list)
    place = urlsplit(address)
    request = f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode()
    loop, host, port = asyncio.get_running_loop(), place.hostname or "", place.port or 0
    for begin in range(0, count, AT_ONCE):
        opened = [
            loop.create_connection(lambda: Listener(request, seen), host, port)
            for _ in range(min(AT_ONCE, count - begin))
        ]
        for _, listener in await asyncio.gather(*opened):
            await listener.answered
    print(f"ready {count}", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    return seen


def resident() -> int:
    """Bytes."""
    return int(psutil.Process().memory_info().rss)


def consume(stack: str, region: str, component: str) -> tuple[Seen, float]:
    """Read from now on until a line comes; then see what more consumers hold, a piece."""
    endpoints, stop = Endpoints.load(stack), threading.Event()
    seen: Seen = defaultdict(list)

    def consumer() -> EventConsumer:
        return EventConsumer(endpoints, region, [component], from_end=True)

    def read(one: EventConsumer) -> None:
        while not stop.is_set():
            found = one.batch()
            now = time.monotonic()
            for received in found:
                seen[received.fact.envelope.aggregate_id].append(now)

    with ExitStack() as opened:
        first = opened.enter_context(consumer())
        first.batch()
        thread = threading.Thread(target=read, args=(first,))
        thread.start()
        print("ready 1", flush=True)
        sys.stdin.readline()
        stop.set()
        thread.join()
        before = resident()
        for _ in range(MORE):
            opened.enter_context(consumer()).batch()
        more = (resident() - before) / MORE
    return seen, more


def main(what: str, *words: str) -> None:
    """See above."""
    if what == "listeners":
        address, path, count = words
        seen, more = asyncio.run(listen(address, path, int(count))), 0.0
    else:
        stack, region, component = words
        seen, more = consume(stack, region, component)
    print(json.dumps({"seen": seen, "more_bytes": more}))


if __name__ == "__main__":
    main(*sys.argv[1:])
