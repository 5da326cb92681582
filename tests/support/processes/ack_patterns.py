"""A Faust worker that fails at record 50, by one way to acknowledge.

`python -m tests.support.processes.ack_patterns PATTERN BOOTSTRAP TOPIC`.
All but three of these ways to acknowledge commit past the failure. A pattern names its group.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import faust
from mode import CrashingSupervisor

from everlode.agents.acks import each_batch
from everlode.agents.app import make_app, raw_topic, run_app

FAILS_AT = 50
QUIET_S = 4.0
PACE_S = 0.02
"""Slow enough for several commits before the failure."""
Agent = Callable[[Any], Awaitable[None]]


class Failed(Exception):
    """The effect of record 50 failed."""


class Worker:
    """One app, one pattern."""

    def __init__(self, pattern: str, bootstrap: str, topic: str) -> None:
        self.app: faust.App = make_app(pattern, bootstrap, broker_commit_interval=0.3)
        self.seen_at = 0.0
        options: dict[str, Any] = {}
        if pattern == "crashing_supervisor":
            options["supervisor_strategy"] = CrashingSupervisor
        if pattern == "concurrency":
            options["concurrency"] = 4
        agent: Agent = getattr(self, "plain" if options.get("supervisor_strategy") else pattern)
        decorator: Any = self.app.agent(raw_topic(self.app, topic), name=pattern, **options)
        made = decorator(agent)
        self.told = made._on_error
        if options.get("supervisor_strategy"):
            made._on_error = self.soon

    def at(self, event: Any) -> int:
        """The record's number; notes that there was one."""
        self.seen_at = time.monotonic()
        time.sleep(PACE_S)
        return int(event.value)

    async def plain(self, stream: Any) -> None:
        async for event in stream.events():
            if self.at(event) == FAILS_AT:
                raise Failed

    async def noack_ack(self, stream: Any) -> None:
        async for event in stream.noack().events():
            if self.at(event) != FAILS_AT:
                event.ack()

    async def two_unacked(self, stream: Any) -> None:
        async for event in stream.noack().events():
            if self.at(event) not in (FAILS_AT, FAILS_AT + 1):
                event.ack()

    async def concurrency(self, stream: Any) -> None:
        async for event in stream.noack().events():
            if self.at(event) == FAILS_AT:
                await asyncio.sleep(3600)
            event.ack()

    async def take_raise(self, stream: Any) -> None:
        async for values in stream.take(20, within=1):
            self.seen_at = time.monotonic()
            await asyncio.sleep(20 * PACE_S)
            if str(FAILS_AT).encode() in values:
                raise Failed

    async def take_crash(self, stream: Any) -> None:
        async for values in stream.take(20, within=1):
            self.seen_at = time.monotonic()
            await asyncio.sleep(20 * PACE_S)
            if str(FAILS_AT).encode() in values:
                self.crashing = asyncio.ensure_future(self.crash())
                return

    async def soon(self, agent: Any, error: BaseException) -> None:
        """The supervisor is told after a commit, for the same reason as in `crash`."""
        await self.passed()
        await self.told(agent, error)

    async def crash(self) -> None:
        """After a commit: whether Faust commits before it stops is a race, either may win."""
        await self.passed()
        await self.app.crash(Failed())

    async def passed(self) -> None:
        """Until Faust has committed past the failure; a way that never does ends as quiet."""
        consumer: Any = self.app.consumer
        while max(consumer._committed_offset.values(), default=0) <= FAILS_AT:
            await asyncio.sleep(0.05)

    async def noack_crash(self, stream: Any) -> None:
        async for event in stream.noack().events():
            await asyncio.sleep(0)
            if self.at(event) == FAILS_AT:
                await self.app.crash(Failed())
                return
            event.ack()

    async def each_batch(self, stream: Any) -> None:
        """The one that everything here uses."""
        await each_batch(self.app, stream, self.effect, most=20, within_s=1)

    async def effect(self, events: list[Any]) -> None:
        if FAILS_AT in [self.at(event) for event in events]:
            raise Failed

    def run(self) -> None:
        """As a worker runs, until it crashes or nothing has been seen for a while.

        `run_app` ends a worker that hangs at its end.
        """
        threading.Thread(target=self.stop_when_quiet, daemon=True).start()
        run_app(self.app)

    def stop_when_quiet(self) -> None:
        while not self.seen_at or time.monotonic() - self.seen_at < QUIET_S:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    Worker(*sys.argv[1:4]).run()
