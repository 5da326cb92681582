"""CommandClient: commands, with their answers awaited.

A command is answered when its fact is in the log. Until then it is sent again under the same id,
so that it is carried out once however often it is sent; when its region cannot be reached for a
while, the same command goes to another one. Shell: one thread a region, one for time.
"""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import Future
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from everlode.adapters.clock import Clock, WallClock
from everlode.avro.codec import encode_request
from everlode.errors import DeadlineExceeded, Refusal
from everlode.events import door
from everlode.events.base import Command, CommandAnswered, CommandHeader
from everlode.sdk.link import RegionLink
from everlode.settings.endpoints import Endpoints

RESEND_S = 8.0
"""A command without an answer is sent again after this time, with the same id; then after twice
that, and so on: the log has kept it, so only a lost answer is made up for, and a busy primary is
not given more to do."""
GONE_AFTER_S = 20.0
"""A region that has taken nothing for this time is gone: its commands go to another one."""


class _Pending:
    __slots__ = (
        "command", "deadline", "future", "header", "region", "sent_at", "value", "wait_s",
    )  # fmt: skip

    def __init__(
        self, header: CommandHeader, command: Command, value: bytes, region: str, timeout_s: float
    ) -> None:
        self.header = header
        self.command = command
        self.value = value
        self.region = region
        self.future: Future[CommandAnswered] = Future()
        self.sent_at = time.monotonic()
        self.wait_s = RESEND_S
        self.deadline = self.sent_at + timeout_s

    def fail(self, error: Exception) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class CommandClient:
    """Whoever sends commands. Thread-safe. Use as a context manager, or `close` it.

    At most `window` commands wait for answers at once; further ones wait for a place.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        region: str,
        client_id: str,
        *,
        timeout_s: float = 60,
        window: int = 2000,
        gone_after_s: float = GONE_AFTER_S,
        clock: Clock | None = None,
    ) -> None:
        """Raises: ConfigError: the region is not in the endpoints."""
        endpoints.region(region)
        self.client_id = client_id
        self.region = region
        self._endpoints = endpoints
        self._timeout_s = timeout_s
        self._gone_after_s = gone_after_s
        self._clock = clock or WallClock()
        self._reply_to = f"{client_id}#{uuid.uuid4().hex[:12]}"
        self._pending: dict[tuple[str, str], _Pending] = {}
        """By aggregate and command id."""
        self._guard = threading.Lock()
        self._places = threading.Semaphore(window)
        self._links: dict[str, RegionLink] = {}
        self._stop = threading.Event()
        self._link(region).ready(min(timeout_s, 10))
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

        The same `command_id` again is carried out once; while it waits, the same future is given.
        Waits while the window is full. Raises: Refusal: the client is closed, or an id does not fit
        (`bad_field`), e.g. is empty. ContractError: the command is too large.
        """
        if self._stop.is_set():
            raise Refusal("the client is closed", code="closed")
        try:
            header = CommandHeader(
                command_id=str(uuid.uuid4()) if command_id is None else command_id,
                aggregate_id=aggregate_id,
                issued_by=self.client_id,
                reply_to=self._reply_to,
                issued_at=issued_at or self._clock.event_now(),
                correlation_id=aggregate_id,
            )
        except ValidationError as error:
            item = error.errors(include_input=False, include_url=False)[0]
            raise door.refused(str(item["loc"][0]), "does not fit", item["msg"]) from None
        value = encode_request(header, command)  # what cannot be sent must not wait for an answer
        self._places.acquire()
        entry = _Pending(header, command, value, self.region, timeout_s or self._timeout_s)
        with self._guard:
            waiting = self._pending.setdefault((aggregate_id, header.command_id), entry)
        if waiting is not entry:
            self._places.release()
            return waiting.future
        self._link(self.region).send(header, command, value)
        return entry.future

    def call(self, aggregate_id: str, command: Command, **options: Any) -> CommandAnswered:
        """Send a command and wait for its answer.

        Raises: Refusal: it was refused. DeadlineExceeded: no answer; ask again with its id.
        """
        answer = self.send(aggregate_id, command, **options).result()
        if answer.outcome == "refused":
            raise Refusal(answer.message, code=answer.code, hint=answer.hint)
        return answer

    # -- inside ------------------------------------------------------------------------------

    def _link(self, region: str) -> RegionLink:
        with self._guard:
            link = self._links.get(region)
            if link is None:
                parts = self._endpoints.parts(region)
                link = RegionLink(parts, self._reply_to, self._answered)
                self._links[region] = link
        return link

    def _answered(self, region: str, answer: CommandAnswered) -> None:
        with self._guard:
            entry = self._pending.get((answer.aggregate_id, answer.command_id))
            if entry is None:
                return
            lost = answer.outcome == "refused" and answer.code.startswith("no_")
            if lost and region != self.region:
                return  # its home knows it; ask until the deadline
            del self._pending[answer.aggregate_id, answer.command_id]
        self._places.release()
        if entry.future.set_running_or_notify_cancel():
            entry.future.set_result(answer)

    def _time(self) -> None:
        while not self._stop.wait(0.25):
            now = time.monotonic()
            with self._guard:
                late = [
                    p for p in self._pending.values() if now >= p.deadline or p.future.cancelled()
                ]
                for entry in late:
                    del self._pending[entry.header.aggregate_id, entry.header.command_id]
                again = [p for p in self._pending.values() if now - p.sent_at >= p.wait_s]
            for entry in late:
                self._places.release()
                entry.fail(
                    DeadlineExceeded(
                        f"no answer to {type(entry.command).__name__} "
                        f"{entry.header.command_id} in time",
                        hint="ask again with the same command_id: it is carried out once",
                    )
                )
            for entry in again:
                entry.sent_at = now
                entry.wait_s *= 2
                entry.region = self._reachable(entry.region)
                self._link(entry.region).send(entry.header, entry.command, entry.value)

    def _reachable(self, region: str) -> str:
        """The region itself, or, when it is gone, another that can be reached."""
        if self._link(region).gone_for() < self._gone_after_s:
            return region
        for other in self._endpoints.regions:
            link = self._link(other)
            if other != region and link.ready(0.5) and link.gone_for() == 0:
                return other
        return region

    def waiting(self) -> int:
        """Commands that wait for their answers."""
        return len(self._pending)

    def close(self) -> None:
        """Stop. Commands that still wait fail with DeadlineExceeded: they may be carried out."""
        self._stop.set()
        self._timer.join(2)
        for link in self._links.values():
            link.close()
        with self._guard:
            left = list(self._pending.values())
            self._pending.clear()
        for entry in left:
            self._places.release()
            entry.fail(
                DeadlineExceeded(
                    f"the client was closed before the answer to {entry.header.command_id}",
                    hint="ask again with the same command_id: it is carried out once",
                )
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
