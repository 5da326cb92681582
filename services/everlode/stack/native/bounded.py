"""Keeps the logs of a stack's processes bounded: one that is full becomes the older part, in place.

A process has its log from its start on as its output and cannot be told to open another file:
brokers and databases neither. So a full log is copied to its older part, `NAME.log.1`, and then cut
to nothing under its writer, who appends (O_APPEND) and goes on at the beginning. A line that is
written between the end of the copy and the cut, some microseconds, is lost, as with logrotate's
copytruncate. A death of ours leaves a log that was copied and not cut; then it is copied again.
Shell: files, a clock.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink

LOOK_S = 2.0
"""A log may grow beyond its bound for so long."""


def older_of(log: Path) -> Path:
    """Where what a log has no room for is kept."""
    return log.with_name(f"{log.name}.1")


class BoundedLogs:
    """Of all processes of a stack; `turn` again and again, from one thread."""

    def __init__(
        self, folder: Path, most: int, report: Sink, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`folder`: with the logs. `most`: bytes of one log."""
        self._folder, self._most = folder, most
        self._report, self._clock = report, clock
        self._look_at = 0.0

    def turn(self) -> None:
        """Look at all logs, every `LOOK_S`."""
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        for log in self._folder.glob("*.log"):
            with suppress(FileNotFoundError):
                if log.stat().st_size > self._most:
                    self._shorten(log)

    def _shorten(self, log: Path) -> None:
        try:
            shorten(log, self._most)
        except OSError as error:  # an older part for which there is no room is given up
            self._report(Note("logs", f"{log.name}: its lines were let go: {error.strerror}"))
            os.truncate(log, 0)


def shorten(log: Path, most: int) -> None:
    """Move a log's last bytes, twice `most` at most, to its older part, in place of what was there.

    Raises: OSError: there is no room, and nothing was changed.
    """
    older = older_of(log)
    draft = older.with_suffix(".tmp")
    try:
        with log.open("r+b") as source:
            source.seek(max(0, os.fstat(source.fileno()).st_size - 2 * most))
            with draft.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            os.replace(draft, older)
            source.truncate(0)
    finally:
        draft.unlink(missing_ok=True)
