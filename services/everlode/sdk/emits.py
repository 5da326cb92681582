"""Emits: facts that wait to be appended, and the futures of those who wait for them. Shell.

Invariants: an `event_id` that waits has one future, however often it is put; each future gets one
result; at most `window` emits wait.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import Future
from datetime import datetime
from typing import NamedTuple

from everlode.errors import OutcomeUnknown
from everlode.events.base import Envelope, Event

IDS = 256
"""Random ids that are made at a time."""


class Ack(NamedTuple):
    """A committed fact."""

    event_id: str
    topic: str
    partition: int
    offset: int


class Emit(NamedTuple):
    """A fact that somebody wants in the log."""

    event_id: str
    key: str
    data: Event
    occurred_at: datetime
    correlation_id: str
    cause: Envelope | None
    since: float
    """When it was emitted, on the monotonic clock."""
    future: Future[Ack]


Result = Ack | Exception


def unknown(event_id: str, why: str) -> OutcomeUnknown:
    """The result of an emit of which nobody knows the end."""
    return OutcomeUnknown(
        f"event {event_id} may or may not be in the log: {why}",
        hint="emit it again with the same event_id: it is appended once",
        event_id=event_id,
    )


class RandomIds:
    """Random ids, UUIDs of version 4. Any thread draws; in a forked process make another.

    Many are made at a time: asking the system for randomness gives the interpreter's lock up, and
    an emitter that does so for each fact waits for it while the writing thread encodes.
    """

    def __init__(self) -> None:
        self._made: list[str] = []

    def draw(self) -> str:
        """An id that nobody has drawn."""
        while True:
            try:
                return self._made.pop()
            except IndexError:
                random = os.urandom(16 * IDS)
                chunks = (random[at : at + 16] for at in range(0, len(random), 16))
                self._made += [str(uuid.UUID(bytes=chunk, version=4)) for chunk in chunks]


class Emits:
    """What waits. Any thread puts; one takes, delivers the results, and says when it is done."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._queue: list[Emit] = []
        self._waiting: dict[str, Future[Ack]] = {}
        self._busy = self._closed = False
        self._changed = threading.Condition()

    def put(self, emit: Emit) -> Future[Ack]:
        """Queue it, or join the one of its id that waits; waits itself while there is no room."""
        with self._changed:
            waiting = self._waiting.setdefault(emit.event_id, emit.future)
            if waiting is emit.future:
                while len(self._queue) >= self._window and not self._closed:
                    self._changed.wait(1.0)
                self._queue.append(emit)
                if len(self._queue) == 1:
                    self._changed.notify_all()
        return waiting

    def take(self, most: int, timeout_s: float) -> list[Emit]:
        """The oldest, in order; empty when none comes in time. To be ended with `done`."""
        with self._changed:
            if not self._queue:
                self._changed.wait(timeout_s)
            taken, self._queue = self._queue[:most], self._queue[most:]
            self._busy = bool(taken)
            self._changed.notify_all()
        return taken

    def done(self) -> None:
        """What was taken has its results."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()

    def deliver(self, results: Iterable[tuple[Emit, Result]]) -> None:
        """Give the emits their results, but for those that have one."""
        given = []
        with self._changed:
            for emit, result in results:
                if self._waiting.get(emit.event_id) is emit.future:
                    del self._waiting[emit.event_id]
                    given.append((emit.future, result))
        for future, result in given:
            if not future.set_running_or_notify_cancel():
                continue
            if isinstance(result, Ack):
                future.set_result(result)
            else:
                future.set_exception(result)

    def expire(self, age_s: float, why: str) -> None:
        """What has waited longer fails, so that its emitter can decide, and others get room."""
        oldest = time.monotonic() - age_s
        with self._changed:
            late = [emit for emit in self._queue if emit.since < oldest]
            self._queue = [emit for emit in self._queue if emit.since >= oldest]
            self._changed.notify_all()
        self.deliver([(emit, unknown(emit.event_id, why)) for emit in late])

    def drain(self, timeout_s: float) -> None:
        """Wait until nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._queue or self._busy), timeout_s)

    def close(self) -> None:
        """Nobody waits for room any more."""
        self._closed = True

    def abandon(self) -> None:
        """Nothing is taken any more: what waits fails."""
        for event_id, future in list(self._waiting.items()):
            if future.set_running_or_notify_cancel():
                future.set_exception(unknown(event_id, "the producer was closed"))
