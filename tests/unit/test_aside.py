"""A call that never returns is given up; its thread is left behind alone, and ends when it can."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from everlode.adapters.aside import Aside


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "aside"}


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_calls_are_made_in_order_and_what_they_raise_is_raised() -> None:
    aside, made = Aside(), list[int]()
    aside.call(lambda: made.append(1), 10)
    with pytest.raises(ZeroDivisionError):
        aside.call(lambda: made.append(1 // 0), 10)
    aside.call(lambda: made.append(2), 10)
    assert made == [1, 2]


def test_call_that_does_not_return_is_given_up_in_time() -> None:
    aside, over = Aside(), threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        aside.call(over.wait, 0.2)
    assert time.monotonic() - began < 5
    over.set()


def test_thread_ends_with_its_owner_or_once_its_call_has_returned() -> None:
    before, over = threads(), threading.Event()
    idle, stuck = Aside(), Aside()
    idle.call(lambda: None, 10)
    with pytest.raises(TimeoutError):
        stuck.call(over.wait, 0.05)
    mine = threads() - before  # others may leave theirs, which end meanwhile
    assert len(mine) == 2
    del idle, stuck
    until(lambda: len(mine & threads()) == 1)
    over.set()
    until(lambda: not mine & threads())
