"""Commands of a coordinator to the primaries of its region: one batch at a time.

What the fact logs then show says whether they were carried out; the answers only make room for the
next batch. Shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from datetime import datetime

from everlode.adapters.clock import Clock
from everlode.events.base import CommandAnswered
from everlode.failover.policy import Order
from everlode.sdk.client import MiningClient


class Orders:
    """`client` is made when the first command is sent: most coordinators never send one."""

    def __init__(self, client: Callable[[], MiningClient], clock: Clock) -> None:
        self._make = client
        self._clock = clock
        self._client: MiningClient | None = None
        self._waiting: list[Future[CommandAnswered]] = []

    def free(self) -> bool:
        """True when all that was sent has been answered, or given up."""
        self._waiting = [answer for answer in self._waiting if not answer.done()]
        return not self._waiting

    def now(self) -> datetime:
        """Event time."""
        return self._clock.event_now()

    def send(self, orders: Iterable[Order]) -> None:
        """Send a batch; its answers are not waited for."""
        if self._client is None:
            self._client = self._make()
        for key, command, command_id in orders:
            self._waiting.append(self._client.send(key, command, command_id=command_id))

    def close(self) -> None:
        """Leave."""
        if self._client is not None:
            self._client.close()
