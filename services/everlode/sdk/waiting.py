"""Commands that wait for their answers, and whoever waits for them.

Several may wait for one command (its id says which it is); each has a future and a deadline of its
own, so that one who gives up, or is cancelled, takes nothing from the others. At most `window`
commands wait; further ones wait for a place, until their deadline. Pure, but for its lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

from everlode.errors import DeadlineExceeded
from everlode.events.base import Command, CommandAnswered, CommandHeader
from everlode.telemetry.tracing import NOT_SENT, Sending

RESEND_S = 8.0
"""A command without an answer is sent again after this time, with the same id; then after twice
that, and so on: the log has kept it, so only a lost answer is made up for, and a busy primary is
not given more to do."""

AGAIN = "ask again with the same command_id: it is carried out once"
Answered = Future[CommandAnswered]


class Waiter(NamedTuple):
    """Somebody who waits, until `deadline` on the monotonic clock, in s."""

    future: Answered
    deadline: float

    def fail(self, message: str) -> None:
        """No answer came."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(DeadlineExceeded(message, hint=AGAIN))


class Asked:
    """A command that was sent, and where to."""

    __slots__ = (
        "asked_at", "command", "handed", "header", "region", "sent_at", "trace", "value",
        "wait_s", "waiters",
    )  # fmt: skip

    def __init__(self, header: CommandHeader, command: Command, value: bytes, region: str) -> None:
        self.header, self.command, self.value, self.region = header, command, value, region
        self.trace: Sending = NOT_SENT
        """Of this one; a command that joins another that waits has none."""
        self.handed = False
        """Given to the region's link, so that it may be stored; else it surely is not."""
        self.asked_at = self.sent_at = time.monotonic()
        self.wait_s = RESEND_S
        self.waiters: list[Waiter] = []

    @property
    def key(self) -> tuple[str, str]:
        """Aggregate and command id."""
        return self.header.aggregate_id, self.header.command_id

    @property
    def text(self) -> str:
        """What it is, for people."""
        name, header = type(self.command).__name__, self.header
        return f"{name} {header.command_id} of {header.aggregate_id}"

    @property
    def unanswered(self) -> str:
        """What is known of it when no answer came."""
        known = "it may be carried out" if self.handed else "it was never sent"
        return f"no answer to {self.text} from its home {self.region} in time: {known}"


def end_trace(trace: Sending, new: bool, future: Answered) -> None:
    """Its future is done. Whoever joined a command that waits, not `new`, has sent nothing."""
    if not new:
        trace.end("joined")
    elif future.cancelled() or future.exception() is not None:
        trace.end("unanswered")
    else:
        trace.end(future.result().outcome)


class Waiting:
    """What waits. Thread-safe."""

    def __init__(self, window: int) -> None:
        self._asked: dict[tuple[str, str], Asked] = {}
        self._guard = threading.Lock()
        self._places = threading.Semaphore(window)
        self._closed = False

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, asked: Asked, timeout_s: float) -> tuple[Answered, bool]:
        """A future of the caller's own, and whether the command must be sent: it did not wait yet.

        Raises: DeadlineExceeded: the window was full all the time; it was not sent.
        """
        waiter = Waiter(Future(), time.monotonic() + timeout_s)
        if self._join(asked, waiter):
            return waiter.future, False
        if not self._places.acquire(timeout=timeout_s):
            raise DeadlineExceeded(f"{asked.text} found no place in the window in time", hint=AGAIN)
        with self._guard:
            known = self._asked.setdefault(asked.key, asked)
            known.waiters.append(waiter)
            closed = self._closed
        if known is not asked:
            self._places.release()
        if closed:
            self.close()
        return waiter.future, known is asked and not closed

    def _join(self, asked: Asked, waiter: Waiter) -> bool:
        with self._guard:
            known = self._asked.get(asked.key)
            if known is not None:
                known.waiters.append(waiter)
        return known is not None

    def answered(self, answer: CommandAnswered) -> None:
        """Give the answer to all who wait for it."""
        key = answer.aggregate_id, answer.command_id
        with self._guard:
            if key not in self._asked:
                return
            waiters = self._asked.pop(key).waiters
        self._places.release()
        for waiter in waiters:
            if waiter.future.set_running_or_notify_cancel():
                waiter.future.set_result(answer)

    def expire(self, now: float) -> None:
        """Fail those whose time is over, and forget whoever was cancelled."""
        late: list[tuple[Waiter, str]] = []
        with self._guard:
            for asked in list(self._asked.values()):
                gone = [w for w in asked.waiters if now >= w.deadline or w.future.cancelled()]
                if not gone:
                    continue
                late += [(waiter, asked.unanswered) for waiter in gone]
                asked.waiters = [w for w in asked.waiters if w not in gone]
                if not asked.waiters:
                    del self._asked[asked.key]
                    self._places.release()
        for waiter, text in late:
            waiter.fail(text)

    def due(self, now: float, ready: Callable[[str], bool]) -> list[Asked]:
        """What must be sent now: again, or for the first time, its region being ready only now."""
        found = []
        with self._guard:
            for asked in self._asked.values():
                if asked.handed and now - asked.sent_at >= asked.wait_s:
                    asked.wait_s *= 2
                elif asked.handed or not ready(asked.region):
                    continue
                asked.handed, asked.sent_at = True, now
                found.append(asked)
        return found

    def redirect(self, to: Callable[[Asked], str], asked_before: float) -> None:
        """What has waited since before a moment goes to where `to` says; it is due if that is new.

        Its `command_id` makes it happen once among those who know what the first one did with it.
        """
        with self._guard:
            for asked in self._asked.values():
                if asked.asked_at > asked_before:
                    continue
                region = to(asked)
                if region != asked.region:
                    asked.region, asked.handed, asked.wait_s = region, False, RESEND_S

    def not_there(self, answer: CommandAnswered) -> None:
        """The region that was asked does not serve it: it is sent to whoever does, at once.

        Where it was sent to another one since, that is waited for.
        """
        with self._guard:
            asked = self._asked.get((answer.aggregate_id, answer.command_id))
            if asked is not None and asked.region == answer.region:
                asked.handed, asked.asked_at = False, 0.0

    def oldest(self) -> float | None:
        """When the first of those that wait was asked; None: nothing waits."""
        with self._guard:
            return min((asked.asked_at for asked in self._asked.values()), default=None)

    def close(self) -> None:
        """Fail all, and whoever comes later: what was sent may be carried out."""
        with self._guard:
            self._closed = True
            left = list(self._asked.values())
            self._asked.clear()
        for asked in left:
            self._places.release()
            for waiter in asked.waiters:
                waiter.fail(f"the client was closed before the answer to {asked.text}")
