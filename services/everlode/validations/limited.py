"""A user's judge with a time limit: one that does not come back does not hold up what waits.

    judge(solution) ──► its verdict, or its error     in time
                    └─► Overdue                       its thread is left alone: the next solution
                                                      gets another thread

A thread cannot be ended, so what was left runs on beside the others, and its node says so in its
beats (`NodeDegraded`). A verdict that comes too late is nobody's. Shell: threads.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from queue import SimpleQueue
from typing import NamedTuple

from everlode.sdk.reference import Judge, Solution, Verdict

MOST_LEFT = 4
"""Threads that are left alone; while there are so many a node judges nothing more."""


GRACE_S = 0.25
"""A process that was stopped finds its judge's time over when it wakes: the judge comes first."""


class Overdue(Exception):
    """The judge has not come back in time."""


class _Asked(NamedTuple):
    solution: Solution
    answer: Future[Verdict]
    began_s: float


_Inbox = SimpleQueue[_Asked | None]


class LimitedJudge:
    """Asks `judge`, one solution at a time. Asked by one thread; `stands` may be by any."""

    def __init__(self, judge: Judge, limit_s: float) -> None:
        self._judge, self._limit_s = judge, limit_s
        self._inbox: _Inbox | None = None
        self._left: tuple[_Asked, ...] = ()

    def __call__(self, solution: Solution) -> Verdict:
        """The verdict. Raises: Overdue; what the judge raises."""
        if self._inbox is None:
            self._inbox = SimpleQueue()
            thread = threading.Thread(target=self._work, args=(self._inbox,), daemon=True)
            thread.start()
        asked = _Asked(solution, Future(), time.monotonic())
        self._inbox.put(asked)
        if not (self._comes(asked, self._limit_s) or self._comes(asked, GRACE_S)):
            self._inbox.put(None)
            self._inbox = None
            self._left = (*self._running(), asked)
            raise Overdue(f"the judge has not come back for {self._limit_s:g} s")
        return asked.answer.result()

    @staticmethod
    def _comes(asked: _Asked, within_s: float) -> bool:
        try:
            asked.answer.exception(within_s)
        except TimeoutError:  # of the waiting: what the judge raises is not raised here
            return False
        return True

    @property
    def free(self) -> bool:
        """Whether it may be asked."""
        return len(self._running()) < MOST_LEFT

    def stands(self) -> str:
        """What to say of those that have not come back; empty: none."""
        running = self._running()
        if not running:
            return ""
        first, more = running[0], len(running) - 1
        text = f"a judge that began {time.monotonic() - first.began_s:.0f} s ago"
        return f"{text} on {first.solution.task_id}" + (f", and {more} more" if more else "")

    def _running(self) -> tuple[_Asked, ...]:
        return tuple(asked for asked in self._left if not asked.answer.done())

    def _work(self, inbox: _Inbox) -> None:
        while (asked := inbox.get()) is not None:
            try:
                asked.answer.set_result(self._judge(asked.solution))
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the asker's
                asked.answer.set_exception(error)
