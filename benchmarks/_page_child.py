"""A server of the page over a network of a size: `SCOPES NODES`; prints its address.

What the control log, the recoveries and the projection would say is made in memory, since a real
one has that in memory too; the routes, the door and the page are the server's own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from types import SimpleNamespace
from typing import Any

import uvicorn

from everlode.api import pages
from everlode.api.app import application
from everlode.api.guard import Guard, House
from everlode.api.ring import Item
from tests.support.world.large import large, regions_of, scores

EVENT = {
    "time": "2026-01-01T00:00:00.000Z", "type": "everlode.OperationStep", "region": "r00",
    "operation": "o-1", "subject": "o-1",
    "data": {"kind": "registry-failover", "step": "promote", "detail": "r00-miner-registry-00001"},
}  # fmt: skip


class Made:
    """What the page asks of a network."""

    def __init__(self, scopes: int, nodes: int) -> None:
        names = tuple(regions_of(scopes))
        self.region, self._control = names[0], large(scopes, nodes)
        self.endpoints = SimpleNamespace(regions=names, topology=SimpleNamespace(regions=names))
        self.scores = scores(self._control, list(names))

    def control(self) -> Any:
        """As it is."""
        return self._control

    async def await_read(self) -> None:
        """It is."""

    def feed(self, _: str) -> Any:
        """A hundred events."""
        item = Item(0, 0, "OperationStep", "r00", "", "o-1", json.dumps(EVENT))
        return SimpleNamespace(kept=lambda: ([item] * 100, "machinery~none~00000000~0"))


async def main(scopes: str, nodes: str) -> None:
    """Serve until standard input ends."""
    made = Made(int(scopes), int(nodes))
    lags = dict.fromkeys(made.endpoints.regions, 1.0)
    for name, value in (("lag_s", lags), ("scores_of", made.scores)):  # of PostgreSQL
        setattr(pages, name, lambda *_, value=value: value)
    app = Guard(application(made, None), House(None, None, 1e6, lambda _: None))  # type: ignore[arg-type]
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    print(json.dumps(f"http://127.0.0.1:{port}"), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
