"""Where entries go: one line each on stderr, as text for people or JSON for programs.

`Sink` is the one port; whoever reports takes one as `report` and calls it. A line is written
whole: threads and processes that share a file do not mix theirs. Shell.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import IO, Literal

from everlode.telemetry.entries import Entry, Logged

Sink = Callable[[Entry], None]
Form = Literal["auto", "text", "json"]
"""auto: text on a terminal, JSON elsewhere."""


def silent(_: Entry) -> None:
    """Reports nothing."""


def as_json(record: Entry, source: str, at: datetime) -> str:
    """One JSON object on one line: at, level, source, entry (its class name), its fields, text."""
    value = {
        "at": at.isoformat(timespec="milliseconds"), "level": record.level, "source": source,
        "entry": type(record).__name__, **asdict(record), "text": record.text,
    }  # fmt: skip
    return json.dumps(value, ensure_ascii=False)


def to_stream(source: str, form: Form = "auto", stream: IO[str] | None = None) -> Sink:
    """A sink that writes a line an entry to `stream`, stderr without one.

    `source` names who reports, e.g. a node's id; lines of text begin with it unless it is empty.
    """
    out = sys.stderr if stream is None else stream
    plain = out.isatty() if form == "auto" else form == "text"

    def report(record: Entry) -> None:
        if plain:
            line = f"{source}: {record.text}" if source else record.text
        else:
            line = as_json(record, source, datetime.now(UTC))
        out.write(line.replace("\n", " ") + os.linesep)
        out.flush()

    return report


class LoggingHandler(logging.Handler):
    """Python's logging as entries, so that a process has one log in one form."""

    def __init__(self, report: Sink) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler; a traceback is part of the message."""
        self._report(Logged(record.name, record.levelname.lower(), self.format(record)))
