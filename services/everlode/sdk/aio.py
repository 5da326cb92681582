"""The SDK for asyncio: each part of it, awaited. Shell: what waits, waits in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Concatenate, ParamSpec

from everlode.control.roles import RoleChange
from everlode.errors import Refusal
from everlode.events.base import Command, CommandAnswered, Event
from everlode.membership.agent import NodeAgent
from everlode.sdk.client import MiningClient
from everlode.sdk.consumer import EventConsumer, Received
from everlode.sdk.emits import Ack
from everlode.sdk.producer import EventProducer

P = ParamSpec("P")


class AsyncMiningClient:
    """`MiningClient` for asyncio: the same answers, awaited. Use as an async context manager.

    `client.run(MiningClient.submit_task, ...)` awaits any method of the synchronous client.
    """

    def __init__(self, client: MiningClient) -> None:
        self.sync = client

    async def call(self, aggregate_id: str, command: Command, **options: Any) -> CommandAnswered:
        """As `MiningClient.call`. A cancelled call is not repeated; it may be carried out.

        Raises: Refusal; DeadlineExceeded.
        """
        future = await asyncio.to_thread(self.sync.send, aggregate_id, command, **options)
        answer = await asyncio.wrap_future(future)
        if answer.outcome == "refused":
            raise Refusal(answer.message, code=answer.code, hint=answer.hint)
        return answer

    async def run(
        self,
        method: Callable[Concatenate[MiningClient, P], CommandAnswered],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> CommandAnswered:
        """Await a method of `MiningClient`. Raises: as the method does."""
        return await asyncio.to_thread(method, self.sync, *arguments, **options)

    async def aclose(self) -> None:
        """Stop."""
        await asyncio.to_thread(self.sync.close)

    async def __aenter__(self) -> AsyncMiningClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncEventProducer:
    """`EventProducer` for asyncio. Use as an async context manager: it opens and closes it."""

    def __init__(self, opened: Callable[[], EventProducer]) -> None:
        """`opened` makes the producer, in a thread: opening fences, and reads the log."""
        self._opened = opened

    async def emit(self, key: str, data: Event, **options: Any) -> Ack:
        """As `EventProducer.emit`, with the Ack awaited; facts go out in the order of the calls.

        A cancelled one is appended all the same, once it has been queued. Raises: OutcomeUnknown;
        FencedOut; Refusal; IntegrityError.
        """
        await self._room.acquire()  # so `emit` itself never waits for room, and may be called here
        try:
            future = asyncio.wrap_future(self.sync.emit(key, data, **options))
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, future: asyncio.Future[Ack]) -> None:
        self._room.release()
        if not future.cancelled():
            future.exception()  # it counts as seen, also when nobody awaits it any more

    async def __aenter__(self) -> AsyncEventProducer:
        self.sync = await asyncio.to_thread(self._opened)
        self._room = asyncio.Semaphore(self.sync.window)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.sync.close)


class AsyncEventConsumer:
    """`EventConsumer` for asyncio: iterate, or await batches. Use as an async context manager.

    For one task. What a cancelled call has read is handed out by the next one.
    """

    def __init__(self, opened: Callable[[], EventConsumer]) -> None:
        """`opened` makes the consumer, in a thread."""
        self._opened = opened
        self._reading: asyncio.Future[None] | None = None

    async def batch(self, most: int = 1000, timeout_s: float = 0.2) -> list[Received]:
        """As `EventConsumer.batch`. Raises: ContractError."""
        await self._fill(most, timeout_s)
        return self.sync.taken(most)

    async def position(self) -> str:
        """As `EventConsumer.position`. Raises: Unavailable."""
        await self._delivered()
        return await asyncio.to_thread(lambda: self.sync.position)

    async def __aiter__(self) -> AsyncIterator[Received]:
        while True:
            await self._fill(1000, 0.2)
            while found := self.sync.taken(1):
                yield found[0]

    async def __aenter__(self) -> AsyncEventConsumer:
        self.sync = await asyncio.to_thread(self._opened)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._delivered()
        await asyncio.to_thread(self.sync.close)

    async def _fill(self, most: int, timeout_s: float) -> None:
        await self._delivered()
        reading = asyncio.to_thread(self.sync.fill, most, timeout_s)
        self._reading = asyncio.ensure_future(reading)
        await self._delivered()

    async def _delivered(self) -> None:
        """The client is for one thread at a time, so a cancelled read is waited for first."""
        if self._reading is not None:
            await asyncio.shield(self._reading)
            self._reading = None


class AsyncNodeAgent:
    """`NodeAgent` for asyncio: `on_role` is a coroutine function, awaited in the running loop.

    Use as an async context manager: it starts and closes the agent. The next change of role is
    told when the callback has ended; an error in it fences the node, as in `NodeAgent`.
    """

    def __init__(self, agent: NodeAgent, on_role: Callable[[RoleChange], Awaitable[None]]) -> None:
        """`agent` is not started yet, and has no `on_role` of its own."""
        self.sync = agent
        self._on_role = on_role

    def leads(self, scope: str) -> int | None:
        """As `NodeAgent.leads`."""
        return self.sync.leads(scope)

    async def __aenter__(self) -> AsyncNodeAgent:
        loop = asyncio.get_running_loop()

        async def notify(change: RoleChange) -> None:
            await self._on_role(change)

        self.sync.listen(lambda c: asyncio.run_coroutine_threadsafe(notify(c), loop).result())
        await asyncio.to_thread(self.sync.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.sync.close)
