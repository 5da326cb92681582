"""Open connections to the nodes' endpoints: a process that ends is known at once, at no cost.

Its kernel closes what it had open, and nothing is sent while it lives. What it means that a
connection ended is found out by a probe; a process that is stopped, or a machine that is gone,
shows here as nothing at all. Shell: one thread.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping

SOON_S, AGAIN_S = 0.02, 0.5
"""A connection that ended is tried again soon, as its process may still be about to end, then more
and more rarely; and reported again while it fails."""


class Watch:
    """Of one coordinator. `ended(node, endpoint)` is called in the watch's own thread."""

    def __init__(self, ended: Callable[[str, str], None]) -> None:
        self._report = ended
        self._wanted: Mapping[str, str] = {}
        self._held: dict[str, tuple[str, socket.socket]] = {}
        self._later: dict[str, float] = {}
        """Node → when its connection is tried again (monotonic)."""
        self._ended: dict[str, tuple[str, float]] = {}
        """Node → endpoint of the process that it had a connection to, which ended; and how long is
        waited before it is tried again."""
        self._stop = False
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def follow(self, endpoints: Mapping[str, str]) -> None:
        """Watch exactly these nodes: node → host:port of its process."""
        if endpoints != self._wanted:
            self._wanted = dict(endpoints)
            self._wake.send(b"x")

    def close(self) -> None:
        """Leave."""
        self._stop = True
        self._wake.send(b"x")
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop:
            self._drop()
            self._connect()
            again = min(self._later.values(), default=None)
            wait_s = None if again is None else max(0.0, again - time.monotonic())
            for key, _ in self._selector.select(wait_s):
                if key.data is None:
                    self._woken.recv(4096)
                else:
                    self._readable(key.data)
        self._wanted = {}
        self._drop()
        self._selector.close()
        self._woken.close()
        self._wake.close()

    def _drop(self) -> None:
        """Leave those that are not wanted, or are another process by now."""
        for node, (endpoint, _) in list(self._held.items()):
            if self._wanted.get(node) != endpoint:
                self._leave(node)
        self._later = {node: at for node, at in self._later.items() if node in self._wanted}
        self._ended = {n: e for n, e in self._ended.items() if self._wanted.get(n) == e[0]}

    def _leave(self, node: str) -> None:
        _, connection = self._held.pop(node)
        self._selector.unregister(connection)
        connection.close()

    def _connect(self) -> None:
        """Connect to those that are not held and due; nothing is waited for."""
        now = time.monotonic()
        for node, endpoint in self._wanted.items():
            if node in self._held or self._later.get(node, now) > now:
                continue
            self._later.pop(node, None)
            connection = socket.socket()
            try:
                connection.setblocking(False)
                host, _, port = endpoint.rpartition(":")
                connection.connect_ex((host, int(port)))  # a refusal is read from it like an end
            except (OSError, ValueError, OverflowError):
                connection.close()  # a beat named what is no endpoint: its silence will show
                self._later[node] = now + AGAIN_S
                continue
            self._held[node] = endpoint, connection
            self._selector.register(connection, selectors.EVENT_READ, node)

    def _readable(self, node: str) -> None:
        """It has ended, or was never had, which proves nothing."""
        endpoint, connection = self._held[node]
        try:
            ended = not connection.recv(1)
        except ConnectionResetError:
            ended = True
        except OSError:
            ended = False
        self._leave(node)
        again_s = AGAIN_S
        if ended or node in self._ended:
            _, again_s = self._ended.get(node, (endpoint, SOON_S))
            self._ended[node] = endpoint, min(AGAIN_S, again_s * 5)
            self._report(node, endpoint)
        self._later[node] = time.monotonic() + again_s
