"""Announcer: how an operation goes, on its region's recovery stream. Shell."""

from __future__ import annotations

import time

from everlode.adapters.clock import WallClock
from everlode.events.base import Event
from everlode.events.recovery import OperationStarted, OperationStep
from everlode.events.types import OperationKind, fitting
from everlode.log.signals import SignalWriter
from everlode.settings.endpoints import RegionEndpoints
from everlode.telemetry.entries import Entry, StepEnded
from everlode.telemetry.sink import Sink, silent


def step_of(entry: StepEnded, kind: OperationKind, number: int, duration_ms: int) -> OperationStep:
    """A step that has ended, as an event: of what it was about as much as one can hold. Pure."""
    return OperationStep(
        kind=kind, number=number, step=entry.step, subject=fitting(entry.subject),
        outcome="done", detail=fitting(entry.detail), duration_ms=duration_ms,
    )  # fmt: skip


class Announcer:
    """Publishes the beginning, the steps and the endings of one operation; `close` it.

    The id of a beginning or an ending follows from the operation's: a resumed one publishes it
    again as the same event. `report` is a Sink: steps that end are published, the rest is not.
    """

    def __init__(
        self,
        place: RegionEndpoints,
        kind: OperationKind,
        operation: str,
        report: Sink = silent,
    ) -> None:
        self._kind: OperationKind = kind
        self._operation = operation
        self._report = report
        self._stream = SignalWriter(place.kafka_bootstrap, place.origin, WallClock())
        self._number = 0
        self._before = time.monotonic()

    def close(self) -> None:
        """Wait shortly for what is not sent yet."""
        self._stream.close()

    def started(self, region: str, subject: str) -> None:
        """It begins, or is resumed."""
        begun = OperationStarted(
            kind=self._kind, region=region, subject=subject, scope_name="", scope_epoch=0,
            evidence=(),
        )  # fmt: skip
        self._publish(begun, "started")

    def report(self, entry: Entry) -> None:
        """Publish a step that has ended; every entry goes on to the operation's own sink."""
        if isinstance(entry, StepEnded):
            now = time.monotonic()
            self._number += 1
            took_ms = round((now - self._before) * 1000)
            self._publish(step_of(entry, self._kind, self._number, took_ms))
            self._before = now
        self._report(entry)

    def ended(self, event: Event, what: str = "") -> None:
        """It has ended, or the part `what` of it.

        Without `what` each call is an event of its own: what failed can be resumed.
        """
        self._publish(event, f"ended/{what}" if what else "")

    def _publish(self, event: Event, name: str = "") -> None:
        self._stream.signal(
            event, topic="recovery", key=self._operation, partition=0,
            event_id=f"{self._operation}/{name}" if name else None,
        )  # fmt: skip
