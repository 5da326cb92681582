"""The SDK for asyncio: each part of it, awaited. Shell: what waits, waits in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from everlode.control.roles import RoleChange
from everlode.errors import Refusal
from everlode.events.base import Command, CommandAnswered, Event
from everlode.membership.agent import NodeAgent
from everlode.sdk.client import MiningClient
from everlode.sdk.consumer import EventConsumer, Received
from everlode.sdk.emits import Ack
from everlode.sdk.job import Job
from everlode.sdk.producer import EventProducer
from everlode.sdk.watch import Change, TaskWatch
from everlode.sdk.work import Work
from everlode.settings.endpoints import Endpoints

P = ParamSpec("P")
R = TypeVar("R")
TAKE_S = 0.5
CALLS = 2000
"""Calls of one client that wait at once; threads are begun as they are needed, and kept."""


class AsyncMiningClient:
    """`MiningClient` for asyncio: the same answers, awaited. Use as an async context manager.

    `client.run(MiningClient.submit_task, ...)` awaits any method of the synchronous client.
    """

    def __init__(self, endpoints: Endpoints, region: str, client_id: str, **options: Any) -> None:
        """As `MiningClient`, which is opened on entering."""
        self._opened = partial(MiningClient, endpoints, region, client_id, **options)
        # a thread for each that waits: in a queue for one, nobody's deadline would hold
        self._threads = ThreadPoolExecutor(CALLS, "client-call")

    async def call(self, aggregate_id: str, command: Command, **options: Any) -> CommandAnswered:
        """As `MiningClient.call`. A cancelled call is not repeated; it may be carried out.

        It may be asked again with the same `command_id`, also while another waits for that one.
        Raises: Refusal; DeadlineExceeded.
        """
        future = await self._in_thread(partial(self.sync.send, aggregate_id, command, **options))
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
        return await self._in_thread(partial(method, self.sync, *arguments, **options))

    async def _in_thread(self, what: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, what)

    def watch(
        self, task_id: str, since: str | CommandAnswered | None = None, **options: Any
    ) -> AsyncTaskWatch:
        """As `MiningClient.watch`, to be entered. Raises: on entering, as it does."""
        return AsyncTaskWatch(partial(self.sync.watch, task_id, since, **options))

    def work(self, **options: Any) -> AsyncWork:
        """As `MiningClient.work`, to be entered."""
        return AsyncWork(self.sync.work(**options))

    async def aclose(self) -> None:
        """Stop."""
        await asyncio.to_thread(self.sync.close)
        self._threads.shutdown(wait=False)

    async def __aenter__(self) -> AsyncMiningClient:
        self.sync = await asyncio.to_thread(self._opened)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class AsyncEventProducer:
    """`EventProducer` for asyncio. Use as an async context manager: it opens and closes it."""

    def __init__(self, endpoints: Endpoints, region: str, component: str, **options: Any) -> None:
        """As `EventProducer`, which is opened on entering: it fences, and reads the log."""
        self._opened = partial(EventProducer, endpoints, region, component, **options)

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


class _Reading:
    """One call at a time in a thread. A cancelled one goes on, and is waited for by the next."""

    def __init__(self) -> None:
        self._call: asyncio.Future[Any] | None = None

    async def __call__(self, call: Callable[..., R], *arguments: Any) -> R:
        await self.done()
        self._call = asyncio.ensure_future(asyncio.to_thread(call, *arguments))
        result: R = await asyncio.shield(self._call)
        self._call = None
        return result

    async def done(self) -> None:
        if self._call is not None:
            await asyncio.shield(self._call)
            self._call = None


class AsyncEventConsumer:
    """`EventConsumer` for asyncio: iterate, or await batches. Use as an async context manager.

    For one task. What a cancelled call has read is handed out by the next one.
    """

    def __init__(
        self, endpoints: Endpoints, region: str, components: Sequence[str], **options: Any
    ) -> None:
        """As `EventConsumer`, which is opened on entering."""
        self._opened = partial(EventConsumer, endpoints, region, components, **options)
        self._reading = _Reading()

    async def batch(self, most: int = 1000, timeout_s: float = 0.2) -> list[Received]:
        """As `EventConsumer.batch`. Raises: ContractError."""
        await self._reading(self.sync.fill, most, timeout_s)
        return self.sync.taken(most)

    async def position(self) -> str:
        """As `EventConsumer.position`. Raises: Unavailable."""
        await self._reading.done()
        return await asyncio.to_thread(lambda: self.sync.position)

    async def __aiter__(self) -> AsyncIterator[Received]:
        while True:
            await self._reading(self.sync.fill, 1000, 0.2)
            while found := self.sync.taken(1):
                yield found[0]

    async def __aenter__(self) -> AsyncEventConsumer:
        self.sync = await asyncio.to_thread(self._opened)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._reading.done()
        await asyncio.to_thread(self.sync.close)


class AsyncTaskWatch:
    """`TaskWatch` for asyncio: enter it, then iterate. For one task."""

    def __init__(self, opened: Callable[[], TaskWatch]) -> None:
        """Opened on entering; see `AsyncMiningClient.watch`."""
        self._opened = opened
        self._reading = _Reading()

    async def __aiter__(self) -> AsyncIterator[Change]:
        """As `TaskWatch.__iter__`."""
        while not self.sync.ended:
            await self._reading(self.sync.fill)
            while (change := self.sync.taken()) is not None:
                yield change

    async def __aenter__(self) -> AsyncTaskWatch:
        self.sync = await asyncio.to_thread(self._opened)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._reading.done()
        await asyncio.to_thread(self.sync.close)


class AsyncJob:
    """`Job` for asyncio: what it is stands in `sync`; what the miner does with it is awaited."""

    def __init__(self, job: Job) -> None:
        self.sync = job

    async def progress(self, progress_ppm: int, **options: Any) -> None:
        """As `Job.progress`. Raises: as it does."""
        await asyncio.to_thread(self.sync.progress, progress_ppm, **options)

    async def hand_in(self, uri: str, sha256: str, size: int, **options: Any) -> None:
        """As `Job.hand_in`. Raises: as it does."""
        await asyncio.to_thread(self.sync.hand_in, uri, sha256, size, **options)

    async def give_up(self, reason: str, **options: Any) -> None:
        """As `Job.give_up`. Raises: as it does."""
        await asyncio.to_thread(self.sync.give_up, reason, **options)


class AsyncWork:
    """`Work` for asyncio: enter it, then iterate. A job that a cancelled call took comes next."""

    def __init__(self, work: Work) -> None:
        self.sync = work
        self._taken: asyncio.Future[Job | None] | None = None

    async def __aiter__(self) -> AsyncIterator[AsyncJob]:
        """As `Work.__iter__`. Raises: as it does."""
        while True:
            self._taken = self._taken or asyncio.ensure_future(
                asyncio.to_thread(self.sync.take, TAKE_S)
            )
            job, self._taken = await asyncio.shield(self._taken), None
            if job is not None:
                yield AsyncJob(job)

    async def __aenter__(self) -> AsyncWork:
        await asyncio.to_thread(self.sync.__enter__)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.sync.close)
        if self._taken is not None:
            await asyncio.wait([self._taken])
            self._taken.exception()  # closed: nobody is to know


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
