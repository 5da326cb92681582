"""Where a command has been, for whoever follows it: the port of traces, and who traces now.

    send ─ traceparent ─► command ─► a primary's turn ─ traceparent ─► fact ─► a projector's batch
    └ until answered                 └ until committed                         └ until visible

A trace goes on from record to record by one header of Kafka, `traceparent` (W3C Trace Context).
`NOT_TRACED` is in use unless a process asks for another one: it reads no header, adds none and
imports nothing. Invariant: traces decide nothing; what they lack or cannot say is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import NamedTuple, Protocol, cast

from everlode.errors import ConfigError

Headers = list[tuple[str, bytes]]
HEADER = "traceparent"
Source = tuple[str | None, int | None, int | None]
"""What a fact says of its cause: topic, partition, and a command's offset or a fact's `seq`."""


class Received(NamedTuple):
    """A record that is worked on."""

    source: Source
    """As the facts that follow from it name it."""
    offset: int
    headers: Headers
    alone: bool = True
    """It is worth a span of its own; else only if something follows from it."""


class Sending(Protocol):
    """A command on its way."""

    headers: Headers
    """What it carries."""

    def end(self, outcome: str) -> None:
        """It was answered, or given up. Any thread; the first end counts."""


class Batch(Protocol):
    """Records that are worked on together."""

    def headers(self, source: Source) -> Headers:
        """What a record carries that follows from one of the batch; empty: that has no trace."""


class Tracing(Protocol):
    """Who traces. Thread-safe."""

    def send(self, topic: str, command_id: str) -> Sending:
        """A command is about to be sent."""

    def batch(self, name: str, records: Iterable[Received]) -> AbstractContextManager[Batch]:
        """Work on records lasts as long as the block, which may fail.

        `records` are asked for when somebody traces only.
        """


class _NotSent:
    def __init__(self) -> None:
        self.headers: Headers = []

    def end(self, outcome: str) -> None:
        """Nothing."""


class _NoBatch:
    def headers(self, source: Source) -> Headers:
        """None."""
        return []


class _NotTraced:
    def send(self, topic: str, command_id: str) -> Sending:
        """See Tracing."""
        return NOT_SENT

    def batch(self, name: str, records: Iterable[Received]) -> AbstractContextManager[Batch]:
        """See Tracing."""
        return nullcontext(_NO_BATCH)


NOT_SENT: Sending = _NotSent()
_NO_BATCH = _NoBatch()
NOT_TRACED: Tracing = _NotTraced()
_in_use: Tracing = NOT_TRACED


def tracing() -> Tracing:
    """Who traces in this process."""
    return _in_use


def trace_by(wanted: Tracing) -> Tracing:
    """Let this process be traced by another one from now on; returns who did before."""
    global _in_use
    before, _in_use = _in_use, wanted
    return before


def exported(collector: str, process: str) -> AbstractContextManager[None]:
    """Send what this process has of traces to a collector, while the block lasts.

    Raises: ConfigError: the extra `otel` is not installed.
    """
    try:
        found = import_module("everlode.telemetry.otel")  # on demand: it needs an extra
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"EVERLODE_OTLP: the module {error.name} is not installed", code="missing_extra",
            hint="pip install 'everlode[otel]', or unset it",
        ) from None  # fmt: skip
    return cast(AbstractContextManager[None], found.exported(collector, process))
