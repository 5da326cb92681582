"""Payouts that wait: which one is tried when, and when the payment system itself must rest.

    owed ──► tried at once ──► booked
               │ fails: that payout alone waits, 5 s, then twice as long each time, 10 min at most
               ├ in a row, first tries of three different payees ───┐
               └ it took 2 s to fail ───────────────────────────────┴──► the sink fails: all wait

One payee whose payouts never succeed holds up nobody, however many they are: of quick failures only
first tries speak for the sink, those of a payee once, so that many who fail again and again do not
stop it either. An attempt is noted before it
is made, whatever it then raises. Memory: one entry a reward that is owed. Pure, but for the clock
given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from everlode.events.types import fitting
from everlode.state.reward import payee_of

PAY_AGAIN_S = 5.0
"""The first wait of a payout, and the first rest of the sink."""
LONGEST_S = 600.0
LONGEST_REST_S = 60.0
FIRST_FAILS = 3
"""First tries of so many payees that fail in a row are the sink's fault, not the payees'."""
SLOW_S = 2.0
"""Nobody may wait so long in the turns of a primary, which must renew its lease."""
UNANSWERED = "asked, no answer yet"


@dataclass(slots=True)
class Waiting:
    """A reward that is owed. Times in monotonic seconds."""

    since: float
    at: float
    """When it is tried."""
    tries: int = 0
    asked: float = 0.0
    why: str = ""
    """Why it has not left."""
    stopped: bool = False
    """Not tried any more: a human decides."""


class Payouts:
    """Of one primary, by reward."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._waiting: dict[str, Waiting] = {}
        self._order: list[tuple[float, str]] = []
        """Heap of (when, reward); entries that are no longer true are passed over."""
        self._failed: set[str] = set()
        """Payees of whom a first try has failed since the last success."""
        self._rests = 0
        """Since the last success, for that."""
        self._rests_until = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def owe(self, key: str) -> None:
        """A reward is to be paid; one that waits goes on waiting."""
        if key not in self._waiting:
            now = self._now_s()
            self._waiting[key] = Waiting(now, now + PAY_AGAIN_S)
            heappush(self._order, (now + PAY_AGAIN_S, key))

    def over(self, key: str) -> None:
        """It is paid, or not to be paid any more."""
        self._waiting.pop(key, None)

    def may_leave(self, key: str) -> bool:
        """True when nothing speaks against a try now: never tried, or its wait is over."""
        now, found = self._now_s(), self._waiting.get(key)
        if now < self._rests_until or (found is not None and found.stopped):
            return False
        return found is None or not found.tries or now >= found.at

    @property
    def rests(self) -> bool:
        """True while the sink is not asked for anything."""
        return self._now_s() < self._rests_until

    def next(self) -> str | None:
        """The reward whose time has come first; None when none is due, or the sink rests."""
        now = self._now_s()
        while self._order and self._order[0][0] <= now >= self._rests_until:
            at, key = heappop(self._order)
            found = self._waiting.get(key)
            if found is not None and not found.stopped and found.at == at:
                return key
        return None

    def begin(self, key: str) -> None:
        """An attempt is about to be made."""
        now = self._now_s()
        found = self._waiting.setdefault(key, Waiting(now, now))
        found.tries, found.asked, found.why = found.tries + 1, now, UNANSWERED
        found.at = now + min(LONGEST_S, PAY_AGAIN_S * 2 ** min(found.tries - 1, 10))
        heappush(self._order, (found.at, key))

    def later(self, key: str) -> None:
        """It cannot be tried now, for no fault of its own."""
        found = self._waiting.get(key)
        if found is not None:
            found.at = self._now_s() + PAY_AGAIN_S
            heappush(self._order, (found.at, key))

    def failed(self, key: str, why: str) -> None:
        """It has not left, or nobody knows."""
        found, now = self._waiting[key], self._now_s()
        found.why = fitting(why)
        if found.tries == 1:
            self._failed.add(payee_of(key))
        many = len(self._failed) >= FIRST_FAILS
        if many or now - found.asked >= SLOW_S:
            longer = 2 ** min(self._rests, 10)
            self._rests += many
            self._rests_until = now + min(LONGEST_REST_S, PAY_AGAIN_S * longer)

    def left(self) -> None:
        """One has left: the sink works."""
        self._failed.clear()
        self._rests, self._rests_until = 0, 0.0

    def stop(self, key: str, why: str) -> bool:
        """It is not tried any more. True when that is new."""
        found = self._waiting[key]
        new, found.stopped, found.why = not found.stopped, True, fitting(why)
        return new

    @property
    def stopped(self) -> dict[str, str]:
        """Rewards that a human decides on → why."""
        return {key: found.why for key, found in self._waiting.items() if found.stopped}

    @property
    def oldest(self) -> str:
        """The one that has waited longest of those that were tried, how long, and why; else "".

        One line without control characters: it goes into heartbeats.
        """
        tried = ((found.since, key) for key, found in self._waiting.items() if found.tries)
        since, key = min(tried, default=(0.0, ""))
        if not key:
            return ""
        found, age = self._waiting[key], self._now_s() - since
        again = "a human decides" if found.stopped else f"tried {found.tries} times"
        text = f"{key} waits for {age:.0f} s, {again}: {found.why}"
        return fitting("".join(c if c.isprintable() else " " for c in text))
