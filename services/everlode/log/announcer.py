"""Announcer: how an operation goes, on its region's recovery stream. Shell."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import get_args

from everlode.adapters.clock import WallClock
from everlode.events.base import Event
from everlode.events.recovery import OperationStarted, OperationStep
from everlode.events.types import OperationKind, StepName
from everlode.log.signals import SignalWriter
from everlode.settings.endpoints import RegionEndpoints


class Announcer:
    """Tells the beginning, the steps and the endings of one operation; `close` it.

    The id of a beginning or an ending follows from the operation's: a resumed one tells it again
    as the same event.
    """

    def __init__(
        self,
        place: RegionEndpoints,
        kind: OperationKind,
        operation: str,
        progress: Callable[[str], None],
    ) -> None:
        self._kind: OperationKind = kind
        self._operation = operation
        self._progress = progress
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
        self._tell(begun, "started")

    def step(self, line: str) -> None:
        """A step has ended: `NAME: what`. Goes on to `progress`."""
        now = time.monotonic()
        self._number += 1
        name = line.partition(":")[0]
        self._tell(
            OperationStep.model_validate(
                {
                    "kind": self._kind, "number": self._number, "outcome": "done", "detail": line,
                    "step": name if name in get_args(StepName) else "other", "subject": name,
                    "duration_ms": round((now - self._before) * 1000),
                }
            )
        )  # fmt: skip
        self._before = now
        self._progress(line)

    def ended(self, event: Event, what: str = "") -> None:
        """It has ended, or the part `what` of it.

        Without `what` each call is an event of its own: what failed can be resumed.
        """
        self._tell(event, f"ended/{what}" if what else "")

    def _tell(self, event: Event, name: str = "") -> None:
        self._stream.signal(
            event, topic="recovery", key=self._operation, partition=0,
            event_id=f"{self._operation}/{name}" if name else None,
        )  # fmt: skip
