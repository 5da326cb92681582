"""MiningClient: commands, with their answers awaited.

A command is answered when its fact is in the log. Until then it is sent again under the same id,
so that it is carried out once however often it is sent; when its region is silent, the same
command goes to another one. Shell: one thread a region, one for time.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

from everlode.errors import DeadlineExceeded, Refusal
from everlode.events import commands as c
from everlode.events.base import Command, CommandAnswered, CommandHeader
from everlode.sdk.clock import Clock, WallClock
from everlode.sdk.link import RegionLink
from everlode.stack.endpoints import Endpoints

RESEND_S = 4.0
"""A command without an answer is sent again after this time, with the same id."""
REGION_SILENT_S = 45.0
"""After this time without any answer from a region, its commands go to the next one too."""


class _Pending:
    __slots__ = ("began", "command", "deadline", "future", "header", "sent_at", "tries")

    def __init__(self, header: CommandHeader, command: Command, timeout_s: float) -> None:
        self.header = header
        self.command = command
        self.future: Future[CommandAnswered] = Future()
        self.began = self.sent_at = time.monotonic()
        self.deadline = self.began + timeout_s
        self.tries = 1


class MiningClient:
    """A client or miner. Thread-safe. Use as a context manager, or `close` it.

    At most `window` commands wait for answers at once; further ones wait for a place.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        region: str,
        client_id: str,
        *,
        partitions: int = 2,
        timeout_s: float = 60,
        window: int = 2000,
        clock: Clock | None = None,
    ) -> None:
        self.client_id = client_id
        self.region = region
        self._endpoints = endpoints
        self._partitions = partitions
        self._timeout_s = timeout_s
        self._clock = clock or WallClock()
        self._reply_to = f"{client_id}#{uuid.uuid4().hex[:12]}"
        self._pending: dict[str, _Pending] = {}
        self._guard = threading.Lock()
        self._places = threading.Semaphore(window)
        self._links: dict[str, RegionLink] = {}
        self._stop = threading.Event()
        self._link(region).ready(timeout_s)
        self._timer = threading.Thread(target=self._time, name="client-time", daemon=True)
        self._timer.start()

    # -- any command -------------------------------------------------------------------------

    def send(
        self,
        aggregate_id: str,
        command: Command,
        *,
        command_id: str | None = None,
        timeout_s: float | None = None,
        issued_at: datetime | None = None,
    ) -> Future[CommandAnswered]:
        """Send a command; the future gives its answer, also a refusal, or DeadlineExceeded.

        The same `command_id` again is carried out once. Waits while the window is full.
        """
        header = CommandHeader(
            command_id=command_id or str(uuid.uuid4()),
            aggregate_id=aggregate_id,
            issued_by=self.client_id,
            reply_to=self._reply_to,
            issued_at=issued_at or self._clock.event_now(),
            correlation_id=aggregate_id,
        )
        self._places.acquire()
        entry = _Pending(header, command, timeout_s or self._timeout_s)
        with self._guard:
            self._pending[header.command_id] = entry
        self._link(self.region).send(header, command)
        return entry.future

    def call(self, aggregate_id: str, command: Command, **options: Any) -> CommandAnswered:
        """Send a command and wait for its answer.

        Raises: Refusal: it was refused. DeadlineExceeded: no answer; ask again with its id.
        """
        answer = self.send(aggregate_id, command, **options).result()
        if answer.outcome == "refused":
            raise Refusal(answer.message, code=answer.code, hint=answer.hint)
        return answer

    # -- what clients and miners say ---------------------------------------------------------

    def submit_task(
        self,
        task_id: str,
        task_type: str,
        payload_uri: str,
        payload_sha256: str,
        payload_bytes: int,
        *,
        gpus: int = 1,
        reward_micro: int = 1_000_000,
        deadline: timedelta = timedelta(days=7),
        max_attempts: int = 3,
    ) -> CommandAnswered:
        """Submit a task and wait until it is in the log. Idempotent by `task_id`.

        Raises: Refusal; DeadlineExceeded.
        """
        command = c.SubmitTask(
            client_id=self.client_id,
            task_type=task_type,
            payload_uri=payload_uri,
            payload_sha256=payload_sha256,
            payload_bytes=payload_bytes,
            cpu_milli=1000,
            memory_mib=1024,
            gpus=gpus,
            gpu_milli=1000 if gpus else 0,
            base_reward_micro=reward_micro,
            max_attempts=max_attempts,
            deadline_at=self._clock.event_now() + deadline,
        )
        return self.call(task_id, command)

    def register_miner(
        self,
        specialties: Sequence[str],
        *,
        endpoint: str,
        gpus: int = 1,
        gpu_model: str = "any",
        max_concurrent: int = 1,
        operator_id: str | None = None,
    ) -> CommandAnswered:
        """Register this client as a miner and wait. Idempotent by client id.

        Raises: Refusal; DeadlineExceeded.
        """
        command = c.RegisterMiner(
            operator_id=operator_id or self.client_id,
            endpoint=endpoint,
            specialties=tuple(specialties),
            gpus=gpus,
            gpu_model=gpu_model,
            cpu_milli=1000,
            memory_mib=1024,
            max_concurrent=max_concurrent,
        )
        return self.call(self.client_id, command)

    # -- inside ------------------------------------------------------------------------------

    def _link(self, region: str) -> RegionLink:
        link = self._links.get(region)
        if link is None:
            bootstrap = self._endpoints.regions[region].kafka_bootstrap
            link = RegionLink(region, bootstrap, self._partitions, self._reply_to, self._answered)
            self._links[region] = link
        return link

    def _answered(self, answer: CommandAnswered) -> None:
        with self._guard:
            entry = self._pending.pop(answer.command_id, None)
        if entry is not None:
            self._places.release()
            entry.future.set_result(answer)

    def _time(self) -> None:
        while not self._stop.wait(0.25):
            now = time.monotonic()
            with self._guard:
                late = [p for p in self._pending.values() if now >= p.deadline]
                for entry in late:
                    del self._pending[entry.header.command_id]
                again = [p for p in self._pending.values() if now - p.sent_at >= RESEND_S]
            for entry in late:
                self._places.release()
                entry.future.set_exception(
                    DeadlineExceeded(
                        f"no answer to {type(entry.command).__name__} "
                        f"{entry.header.command_id} in time",
                        hint="ask again with the same command_id: it is carried out once",
                    )
                )
            self._again(again, now)

    def _again(self, entries: Iterable[_Pending], now: float) -> None:
        home = self._link(self.region)
        silent = now - home.heard_at > REGION_SILENT_S
        others = [r for r in self._endpoints.regions if r != self.region] if silent else []
        for entry in entries:
            entry.sent_at = now
            entry.tries += 1
            home.send(entry.header, entry.command)
            if others:
                link = self._link(others[entry.tries % len(others)])
                if link.ready(5):
                    link.send(entry.header, entry.command)

    def waiting(self) -> int:
        """Commands that wait for their answers."""
        return len(self._pending)

    def close(self) -> None:
        """Stop. Commands that still wait get no answer."""
        self._stop.set()
        self._timer.join(2)
        for link in self._links.values():
            link.close()

    def __enter__(self) -> MiningClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncMiningClient:
    """`MiningClient` for asyncio: the same answers, awaited."""

    def __init__(self, client: MiningClient) -> None:
        self._client = client

    async def call(self, aggregate_id: str, command: Command, **options: Any) -> CommandAnswered:
        """As `MiningClient.call`. Raises: Refusal; DeadlineExceeded."""
        future = await asyncio.to_thread(self._client.send, aggregate_id, command, **options)
        answer = await asyncio.wrap_future(future)
        if answer.outcome == "refused":
            raise Refusal(answer.message, code=answer.code, hint=answer.hint)
        return answer

    async def aclose(self) -> None:
        """Stop."""
        await asyncio.to_thread(self._client.close)
