"""The keeper on small processes of its own: what ends is started, published, and given up."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from everlode.errors import Unavailable
from everlode.events.base import Event
from everlode.events.recovery import HealingGivenUp, HealingStarted, HealingSucceeded
from everlode.stack.book import read_book
from everlode.stack.healing import Limits
from everlode.stack.native.keeper import Keeper
from everlode.stack.native.lock import Recorded
from everlode.stack.native.process import Command, Process
from everlode.telemetry.sink import silent

FAST = Limits(first_wait_s=0.05, longest_wait_s=0.1, cap=3, window_s=600.0, steady_s=0.2)
LASTS = "import time; time.sleep(600)"
WITHIN_S = 20.0


class Small:
    """A stack of Python processes, as the keeper knows one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, Process] = {}
        self.refused = ""

    def add(self, name: str, code: str, **more: object) -> Process:
        argv = (sys.executable, "-c", code)
        log = self.folder / f"{name.replace('/', '-')}.log"
        self.processes[name] = Process(
            Command(name, "projector", argv, log, lambda: True, **more)  # type: ignore[arg-type]
        )
        self.processes[name].start()
        return self.processes[name]

    def kept(self) -> dict[str, Process]:
        return self.processes

    def restart(self, name: str, aborted: threading.Event | None = None) -> None:
        if name == self.refused:
            raise Unavailable(f"{name} is not ready in time")
        self.processes[name].stop()
        self.processes[name].start()

    def kill(self, name: str) -> None:
        self.processes[name].kill9()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    stack = Small(tmp_path)
    yield stack
    for process in stack.processes.values():
        process.kill9()


class Watched:
    """A keeper and what it published."""

    def __init__(self, stack: Small) -> None:
        self.events: list[tuple[str, Event]] = []
        self.keeper = Keeper(
            stack, stack.folder, lambda name, event: self.events.append((name, event)), silent,
            FAST,
        )  # fmt: skip

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not holds():
            assert time.monotonic() < deadline, self.events
            self.keeper.turn()
            time.sleep(0.02)

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for _, event in self.events if isinstance(event, kind)]


@pytest.fixture
def watched(small: Small) -> Iterator[Watched]:
    found = Watched(small)
    yield found
    found.keeper.close()


def test_killed_process_is_started_again_and_its_healing_published(
    small: Small, watched: Watched
) -> None:
    process = small.add("eu/proj-1", LASTS)
    watched.keeper.turn()
    before = process.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    watched.until(lambda: bool(watched.of(HealingSucceeded)))
    assert process.pid not in (None, before)
    (begun,) = watched.of(HealingStarted)
    assert isinstance(begun, HealingStarted)
    assert (begun.process, begun.attempt, begun.exit_status) == ("eu/proj-1", 1, -9)
    row = read_book(small.folder)["eu/proj-1"]
    assert (row.restarts, row.lost_at_s, row.why) == (1, 0.0, "")


def test_process_that_keeps_ending_is_given_up_and_never_started_again(
    small: Small, watched: Watched
) -> None:
    small.add("eu/proj-1", "raise SystemExit(7)")
    watched.until(lambda: bool(watched.of(HealingGivenUp)))
    assert len(watched.of(HealingStarted)) == FAST.cap
    (over,) = watched.of(HealingGivenUp)
    assert isinstance(over, HealingGivenUp)
    assert (over.attempts, over.exit_status) == (FAST.cap, 7)
    again = Watched(small)  # who takes over does not begin anew
    for _ in range(20):
        again.keeper.turn()
        time.sleep(0.02)
    again.keeper.close()
    assert again.events == []
    assert read_book(small.folder)["eu/proj-1"].why.startswith("given up: ")


def test_wrong_settings_are_given_up_at_once(small: Small, watched: Watched) -> None:
    small.add("eu/proj-1", "raise SystemExit(2)")
    watched.until(lambda: bool(watched.of(HealingGivenUp)))
    assert watched.of(HealingStarted) == []


def test_start_that_fails_counts_and_what_needs_it_waits(small: Small, watched: Watched) -> None:
    broker = small.add("eu/kafka", LASTS)
    needing = small.add("eu/proj-1", LASTS, needs=("eu/kafka",))
    watched.keeper.turn()
    small.refused = "eu/kafka"
    for process in (broker, needing):
        process.kill9()
    watched.until(lambda: bool(watched.of(HealingGivenUp)))
    assert {name for name, _ in watched.events} == {"eu/kafka"}
    assert read_book(small.folder)["eu/proj-1"].why == "eu/kafka does not serve"


def test_process_of_another_parent_is_adopted_and_its_end_is_seen(
    small: Small, watched: Watched, tmp_path: Path
) -> None:
    mine = small.add("eu/proj-1", LASTS)
    other = Process(mine.command)
    assert mine.pid is not None
    created = psutil.Process(mine.pid).create_time()
    other.adopt(Recorded("eu/proj-1", "projector", mine.pid, created))
    small.processes = {"eu/proj-1": other}
    watched.keeper.turn()
    assert (other.pid, other.exit_status, watched.events) == (mine.pid, None, [])
    mine.kill9()
    watched.until(lambda: bool(watched.of(HealingSucceeded)))
    (begun,) = watched.of(HealingStarted)
    assert isinstance(begun, HealingStarted)
    assert begun.exit_status is None
    assert other.pid not in (None, mine.pid)
