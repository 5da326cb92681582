"""The process that serves: one socket, one loop, until SIGTERM or SIGINT.

Steps: 1. listen, and print where. 2. follow the network, once it is there. 3. serve. 4. end the
streams, let requests end, let go. Who connects before 3 waits for it. Shell.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable
from typing import NamedTuple

import uvicorn

from everlode.api.app import application
from everlode.api.guard import Guard, House
from everlode.api.members import Trusted
from everlode.api.network import Network, ServedRegion
from everlode.errors import ConfigError
from everlode.telemetry.sink import Sink

CONNECTIONS = 2_000
GRACE_S = 5
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Site(NamedTuple):
    """How the server is reached."""

    host: str
    port: int
    """0: any that is free."""
    tokens: Trusted | None
    """None: no token is wanted, on the loopback only."""
    rate: float = 200.0
    """Requests a second of one caller."""


def check_site(site: Site) -> None:
    """Raises: ConfigError: without tokens it would be open to others."""
    if site.tokens is None and not _is_loopback(site.host):
        raise ConfigError(
            f"--insecure on {site.host}: others could reach it", hint="--tokens FILE, or 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Server(uvicorn.Server):
    """Ends the streams before it waits for connections to close; ends when it was asked before."""

    def __init__(self, config: uvicorn.Config, network: Network, stop: threading.Event) -> None:
        super().__init__(config)
        self._network, self._stop = network, stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn.Server; from here on its own handlers have the signals."""
        await super().startup(sockets)
        self.should_exit = self.should_exit or self._stop.is_set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn.Server."""
        self._network.end_streams()
        await super().shutdown(sockets)


class Hooks(NamedTuple):
    """Between a server and the process that it is."""

    started: Callable[[str], None]
    """Is given its address, once it listens."""
    report: Sink
    """Is given who asked for what, and who was turned away."""
    stop: threading.Event
    """Is set by a signal that comes before the server itself takes them."""


def serve(place: Callable[[], ServedRegion | None], site: Site, hooks: Hooks) -> None:
    """Serve until SIGTERM or SIGINT.

    `place` may wait for its network; it is asked once the server listens, and None ends it. Raises:
    ConfigError: the address cannot be had, or would be open to others. Whatever `place` raises.
    """
    check_site(site)
    with _listen(site) as listening:  # 1.
        hooks.started(_address(listening))
        found = place()
        if found is not None:
            asyncio.run(_serve(found, site, hooks, listening))


def _listen(site: Site) -> socket.socket:
    family = socket.AF_INET6 if ":" in site.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((site.host, site.port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"{site.host}:{site.port}: {error.strerror or error}", code="port_in_use",
            hint="another --port; 0 takes any that is free",
        ) from None  # fmt: skip
    listening.listen(1024)
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _serve(place: ServedRegion, site: Site, hooks: Hooks, listening: socket.socket) -> None:
    network = Network(place)
    network.open()  # 2.
    hosts = LOOPBACK if _is_loopback(site.host) else None
    app = Guard(
        application(network, site.tokens), House(site.tokens, hosts, site.rate, hooks.report)
    )
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", ws="none", http="h11",
        server_header=False, proxy_headers=False, limit_concurrency=CONNECTIONS,
        timeout_keep_alive=30, timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=32_768,
    )  # fmt: skip
    try:
        await _Server(config, network, hooks.stop).serve([listening])  # 3.
    finally:
        await network.close()  # 4.
