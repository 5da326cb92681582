"""The port of a stack provider: what starts a network's parts, shows them, and breaks them.

A part is named as its provider lists it in `processes`: `<region>/kafka`, `<region>/postgres`,
`<region>/mirror`, `control/1` …, `s3`. `NativeStack` is the one provider there is. Pure.

Invariants: a part that failed on purpose (`kill`, `pause`, `stop`, `wipe`) stays as it is until
`resume` or `restart`; the provider repairs nothing by itself. After `down` nothing of it runs.
"""

from __future__ import annotations

from types import TracebackType
from typing import NamedTuple, Protocol, Self

from everlode.settings.endpoints import Endpoints
from everlode.telemetry.sink import Sink, silent
from everlode.topics import Topology


class ProcessStatus(NamedTuple):
    """One process of a stack, now."""

    name: str
    kind: str
    """kafka, control, mirror, postgres or s3."""
    pid: int | None
    exit_status: int | None
    """None while it runs."""
    resident_bytes: int


class StackProvider(Protocol):
    """One stack, from its start to its end. A context manager: leaving it is `down`."""

    topology: Topology
    endpoints: Endpoints | None
    """Where everything listens; None before `up`."""
    timings_s: dict[str, float]
    """Seconds from the start of `up` to each part being ready, and `total`."""

    def up(self, report: Sink = silent) -> Endpoints:
        """Start everything, make and check all topics; returns once all of it serves.

        `report` may be called from several threads. Raises: Locked, ConfigError, Unavailable;
        after an error nothing of it runs.
        """
        ...

    def down(self, *, at_once: bool = False) -> None:
        """Stop everything and wait for it; data stay. Idempotent.

        `at_once`: for who will not need the data.
        """
        ...

    def processes(self) -> list[ProcessStatus]:
        """All parts that were started, by name."""
        ...

    def kill(self, name: str) -> None:
        """End a part at once, as by a crash. Raises: NotFound, like all that name a part."""
        ...

    def pause(self, name: str) -> None:
        """Let a part stand still: it keeps its connections and answers nothing."""
        ...

    def resume(self, name: str) -> None:
        """Let a paused part go on."""
        ...

    def stop(self, name: str) -> None:
        """Stop one part in good order."""
        ...

    def restart(self, name: str) -> None:
        """Start a part that was stopped, killed or wiped and wait until it serves."""
        ...

    def wipe(self, name: str) -> None:
        """Kill a part and destroy its data, for good."""
        ...

    def set_mirror_sources(self, target: str, sources: tuple[str, ...]) -> None:
        """Let the mirror next to `target` read from `sources` only: a cut between regions."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
