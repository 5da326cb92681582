"""Keeps a stack's processes running: looks at each, notes losses, starts again as `healing` plans.

Each turn, for each process:
    1. it runs, and has served for a while since its loss → healed, published
    2. it has ended → the loss is noted in the book, which is written before anything is done
    3. the plan says start → started in a thread of its own, so that none waits for another
    4. the plan says give up → published; it stays as it is until the stack is started anew

Invariants: one start of a process at a time; after `close` nothing is started. Shell: processes,
one file, a clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from everlode.errors import EverlodeError
from everlode.events.base import Event
from everlode.events.recovery import HealingGivenUp, HealingStarted, HealingSucceeded
from everlode.stack.book import Kept, read_book, write_book
from everlode.stack.healing import Exit, GiveUp, Limits, Lost, Start, Wait, plan, recent
from everlode.stack.native.process import UNKNOWN_STATUS, Process
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink

LOOK_S = 0.2
THREADS = 8

Publish = Callable[[str, Event], None]
"""Publish an event about a process, given by its name. Does not wait."""


class Keeps(Protocol):
    """What is kept running; see `NativeStack`."""

    def kept(self) -> Mapping[str, Process]:
        """All its processes, by name."""
        ...

    def restart(self, name: str, aborted: threading.Event | None = None) -> None:
        """Start one again and wait until it serves. Raises: Unavailable."""
        ...

    def kill(self, name: str) -> None:
        """End one at once."""
        ...


class Keeper:
    """Heals what ends; `turn` again and again from one thread, then `close`."""

    def __init__(
        self,
        stack: Keeps,
        folder: Path,
        publish: Publish,
        report: Sink,
        limits: Limits | None = None,
    ) -> None:
        self._stack = stack
        self._folder = folder
        self._publish = publish
        self._report = report
        self._limits = limits or Limits()
        self._book = read_book(folder)
        self._starts: dict[str, Future[None]] = {}
        self._pool = ThreadPoolExecutor(THREADS, "healing")
        self._closed = threading.Event()
        self._written: dict[str, Kept] | None = None

    def watch(self, before: Callable[[], None] = lambda: None) -> None:
        """Turn until an exception, e.g. a signal's, ends it; `before` each turn that is called."""
        while True:
            before()
            self.turn()
            time.sleep(LOOK_S)

    def turn(self) -> None:
        """Look at everything once; starts go on behind it."""
        kept = self._stack.kept()
        for name in [n for n in self._book if n not in kept and not self.starts(n)]:
            del self._book[name]
            self._starts.pop(name, None)
        for name, process in sorted(kept.items()):
            row = self._book.setdefault(name, Kept(process.command.kind))
            start = self._starts.get(name)
            if start is not None and start.done():
                del self._starts[name]
                self._note_failure(name, start)
            elif start is None and process.exit_status is None:
                self._note_running(name, row)
            elif start is None and not row.given_up:
                self._heal(name, process, row)
        self._write()

    def starts(self, name: str) -> bool:
        """Whether a start of it is under way."""
        return name in self._starts and not self._starts[name].done()

    def close(self) -> None:
        """Start nothing any more, and wait for the starts that are under way to give up."""
        self._closed.set()
        self._pool.shutdown(cancel_futures=True)

    def _note_running(self, name: str, row: Kept) -> None:
        now = time.time()
        if not row.lost_at_s or now - row.started_at_s < self._limits.steady_s:
            return
        lasted = max(0.0, row.started_at_s - row.lost_at_s)
        attempts = len(recent(row.exits, self._limits))
        row.lost_at_s, row.why = 0.0, ""
        healed = HealingSucceeded(
            process=name, process_kind=row.kind, attempts=attempts, lost_ms=round(lasted * 1000)
        )
        self._publish(name, healed)
        self._report(Note("healing", f"{name} serves again after {lasted:.1f} s"))

    def _note_failure(self, name: str, start: Future[None]) -> None:
        error = None if start.cancelled() else start.exception()
        if error is None:
            self._book[name].why = ""
            return
        if not isinstance(error, EverlodeError | OSError):  # a mistake of ours; others see to it
            raise error
        reason = error.message if isinstance(error, EverlodeError) else str(error)
        self._book[name].why = reason.partition("\n")[0]
        self._stack.kill(name)  # it lives and does not serve: the next turn notes its end
        self._report(Note("healing", f"{name}: {reason}"))

    def _heal(self, name: str, process: Process, row: Kept) -> None:
        now = time.time()
        if not row.exits or row.exits[-1].at_s < row.started_at_s or not row.lost_at_s:
            status = process.exit_status
            row.exits.append(Exit(now, None if status == UNKNOWN_STATUS else status))
            row.exits[:] = recent(row.exits, self._limits)
            row.lost_at_s = row.lost_at_s or now
            self._report(Note("healing", f"{name} has ended, status {row.exits[-1].status}"))
            self._write()
        match plan(Lost(row.kind, row.exits, self._lacking(process)), now, self._limits):
            case Wait(why):
                row.why = why
            case Start(attempt):
                row.restarts, row.started_at_s = row.restarts + 1, now
                row.why = f"it is being started, attempt {attempt}"
                self._publish(name, self._started(name, row, attempt))
                self._starts[name] = self._pool.submit(self._start, name)
            case GiveUp(attempts, why):
                row.given_up, row.why = True, f"given up: {why}"
                last = row.exits[-1].status
                over = HealingGivenUp(
                    process=name, process_kind=row.kind, attempts=attempts, exit_status=last,
                    reason=why, window_ms=round(self._limits.window_s * 1000),
                )  # fmt: skip
                self._publish(name, over)
                self._report(Note("healing", f"{name} is {row.why}; log {process.command.log}"))

    def _started(self, name: str, row: Kept, attempt: int) -> HealingStarted:
        waited = max(0.0, row.started_at_s - row.exits[-1].at_s)
        return HealingStarted(
            process=name, process_kind=row.kind, attempt=attempt,
            exit_status=row.exits[-1].status, waited_ms=round(waited * 1000),
        )  # fmt: skip

    def _start(self, name: str) -> None:
        if not self._closed.is_set():
            self._stack.restart(name, self._closed)
        self._book[name].started_at_s = time.time()

    def _lacking(self, process: Process) -> str:
        kept = self._stack.kept()
        for name in process.command.needs:
            if name in self._starts or (name in kept and kept[name].exit_status is not None):
                return name
        return ""

    def _write(self) -> None:
        now = {n: replace(k, exits=list(k.exits)) for n, k in self._book.items()}
        if now == self._written:
            return
        with suppress(OSError):  # no room: it is written as soon as there is
            write_book(self._folder, now)
            self._written = now
