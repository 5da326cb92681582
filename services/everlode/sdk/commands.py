"""CommandClient: commands, with their answers awaited.

A command is answered when its fact is in the log. Until then it is sent again under the same id,
so that it is carried out once however often it is sent. It goes to the home that its aggregate's id
begins with, and to no other region while that is not fenced: whether a region that does not answer
has stored it, nobody knows. Once it is fenced, and another region has taken its scope, it goes
there, what waits already too; and home again once the scope has gone home: a region that says that
it does not serve the scope has not carried it out. Deadlines hold whatever the links do: whoever
waits for a link is not who looks at the time.
Shell: one thread a region, one for time, one to send again.
"""

from __future__ import annotations

import threading
import time
import uuid
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from everlode.adapters.clock import Clock, WallClock
from everlode.avro.codec import encode_request
from everlode.errors import DeadlineExceeded, Refusal
from everlode.events import door
from everlode.events.base import Command, CommandAnswered, CommandHeader
from everlode.events.commands import RegisterMiner, SubmitTask
from everlode.events.identity import at_home, home_of_id
from everlode.sdk.link import RegionLink
from everlode.sdk.owners import Owners
from everlode.sdk.waiting import Answered, Asked, Waiting, end_trace
from everlode.settings.endpoints import Endpoints
from everlode.telemetry.tracing import NOT_SENT, tracing
from everlode.topics.names import command_topic

TICK_S = 0.25
OWNER_S = 2.0
"""A command without an answer for so long may be one of a region that is gone."""
AWAY = frozenset({"not_served", "not_at_home"})
"""What a region that is not an aggregate's home says when it does not serve that, or no more."""
NAMING = (SubmitTask, RegisterMiner)
"""Commands that create what their sender names: a name without a home gets this client's."""


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
        clock: Clock | None = None,
    ) -> None:
        """Raises: ConfigError: the region is not in the endpoints, or does not let this process in.
        Refusal: it may not read answers there.
        """
        endpoints.region(region)
        self.client_id = client_id
        self.region = region
        self._endpoints = endpoints
        self._timeout_s = timeout_s
        self._clock = clock or WallClock()
        self._reply_to = f"{client_id}#{uuid.uuid4().hex[:12]}"
        self._waiting = Waiting(window)
        self._owners = Owners(endpoints)
        self._guard = threading.Lock()
        self._links: dict[str, RegionLink] = {}
        self._stop = threading.Event()
        link = self._link(region)
        link.ready(min(timeout_s, 10))
        if link.refused is not None:
            link.close()
            raise link.refused
        self._timer = threading.Thread(target=self._time, name="client-time", daemon=True)
        self._timer.start()
        self._again = threading.Thread(target=self._resend, name="client-again", daemon=True)
        self._again.start()

    # -- any command -------------------------------------------------------------------------

    def send(
        self,
        aggregate_id: str,
        command: Command,
        *,
        command_id: str | None = None,
        timeout_s: float | None = None,
        issued_at: datetime | None = None,
    ) -> Answered:
        """Send a command; the future gives its answer, also a refusal, or DeadlineExceeded.

        It goes to the home that the id begins with; one without (a new name, or an aggregate of an
        older build) to this client's region, and a new name gets that one's for its home.
        The same `command_id` again is carried out once; while it waits, it is not sent anew, and
        each caller's future has its own deadline and may be cancelled by itself. Waits while the
        window is full. Raises: Refusal: the client is closed, an id does not fit (`bad_field`),
        e.g. is empty, or what is to be created is at home in no region (`not_at_home`), or
        the region that it goes to does not let this process in: then a ConfigError, too.
        ContractError: the command is too large. DeadlineExceeded: the window was full for all the
        time given.
        """
        if self._stop.is_set():
            raise Refusal("the client is closed", code="closed")
        if isinstance(command, NAMING) and aggregate_id:
            aggregate_id = self.id_of(aggregate_id)
        region = self._route(aggregate_id, command)
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
        asked = Asked(header, command, value, region)
        link = self._link(region)
        if link.refused is not None:
            raise link.refused
        asked.handed = link.ready(0)  # else once its answers are read, by `_resend`
        asked.trace = tracing().send(command_topic(region, command.component), header.command_id)
        try:
            future, new = self._waiting.ask(asked, timeout_s or self._timeout_s)
        except DeadlineExceeded:
            asked.trace.end("not_sent")
            raise
        if asked.trace is not NOT_SENT:
            future.add_done_callback(partial(end_trace, asked.trace, new))
        if new and asked.handed:
            link.send(asked)
        return future

    def id_of(self, name: str) -> str:
        """The id of a name: at home in this client's region, unless it begins with its home."""
        return at_home(self.region, name)

    def _route(self, aggregate_id: str, command: Command) -> str:
        """Region that a command goes to. Raises: Refusal: nobody could create it."""
        home = home_of_id(aggregate_id)
        if home in self._endpoints.regions:
            return self._owners.of(command.component, home)
        if isinstance(command, NAMING) and home:
            raise Refusal(
                f"{aggregate_id} is at home in {home}, which is no region here",
                code="not_at_home",
                hint=f"the home is one of {', '.join(self._endpoints.regions)}",
            )
        return self.region

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

    def _answered(self, answer: CommandAnswered) -> None:
        """Of the links' threads."""
        home = home_of_id(answer.aggregate_id)
        moved = answer.code in AWAY and answer.region != home
        if moved and home in self._endpoints.regions:
            self._waiting.not_there(answer)
        else:
            self._waiting.answered(answer)

    def _time(self) -> None:
        while not self._stop.wait(TICK_S):
            self._waiting.expire(time.monotonic())

    def _resend(self) -> None:
        """May wait for links, and is late then; nobody's deadline hangs on it."""
        while not self._stop.wait(TICK_S):
            self._redirect(time.monotonic() - OWNER_S)
            for asked in self._waiting.due(time.monotonic(), self._ready):
                self._link(asked.region).send(asked)

    def _redirect(self, asked_before: float) -> None:
        oldest = self._waiting.oldest()
        if oldest is None or oldest > asked_before:
            return
        if self._owners.look():
            self._waiting.redirect(self._owner, asked_before)

    def _owner(self, asked: Asked) -> str:
        return self._route(asked.header.aggregate_id, asked.command)

    def _ready(self, region: str) -> bool:
        return self._link(region).ready(0)

    def waiting(self) -> int:
        """Commands that wait for their answers."""
        return len(self._waiting)

    def close(self) -> None:
        """Stop. Commands that still wait fail with DeadlineExceeded: they may be carried out."""
        self._stop.set()
        self._timer.join(2)
        self._waiting.close()  # first: links may take their time
        self._again.join(2)
        self._owners.close()
        with self._guard:
            links = list(self._links.values())
        for link in links:
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
