"""What a detector knows of one node. Pure, but for its own memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from everlode.detection.tuning import Tuning
from everlode.events.base import Evidence
from everlode.events.heartbeats import NodeBeat

WINDOW = 32
"""Intervals between heartbeats that are kept."""


class Said(NamedTuple):
    """When and where a node said something first."""

    at_ms: int
    place: Evidence


@dataclass(slots=True)
class Track:
    """One node; times are milliseconds of the barriers."""

    heartbeat: NodeBeat
    at_ms: int
    """When the last heartbeat came."""
    place: Evidence
    intervals: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    status: str = "healthy"
    """healthy, suspected or lost."""
    idle: int = 0
    answer: str = ""
    """Last answer to a probe in this silence; empty without one."""
    answered: Evidence | None = None
    answered_ms: int = -(10**9)
    """When that answer came."""
    asked_ms: int = -(10**9)
    flaps: deque[int] = field(default_factory=deque)
    flapping: bool = False
    withheld: bool = False
    """It is lost, but as it was flapping no action was asked for."""
    degraded: Said | None = None
    """Since when it has been saying, beat by beat, that it cannot do its work."""
    degraded_given: bool = False

    @property
    def every(self) -> int:
        """Interval between heartbeats that the node promises, ms."""
        return max(1, self.heartbeat.interval_ms)

    def arrived(self, heartbeat: NodeBeat, at_ms: int, place: Evidence) -> None:
        """A heartbeat came: the node lives."""
        if self.status != "healthy":
            self.degraded = None  # what it says counts from its return on
        self.heartbeat, self.at_ms, self.place = heartbeat, at_ms, place
        self.status, self.answer, self.answered = "healthy", "", None
        self.answered_ms = -(10**9)
        self.asked_ms, self.withheld = -(10**9), False
        self.said(heartbeat, at_ms, place)

    def said(self, heartbeat: NodeBeat, at_ms: int, place: Evidence) -> None:
        """What the node says of itself in a heartbeat."""
        if heartbeat.status != "degraded":
            self.degraded, self.degraded_given = None, False
        elif self.degraded is None:
            self.degraded, self.degraded_given = Said(at_ms, place), False

    def barrier(self, now_ms: int, tuning: Tuning) -> None:
        """A barrier came: what came before it is not later than it."""
        self.at_ms = min(self.at_ms, now_ms)
        while self.flaps and now_ms - self.flaps[0] > tuning.flap_window_ms:
            self.flaps.popleft()
        if len(self.flaps) < tuning.flaps:
            self.flapping = False

    def returned(self, now_ms: int, silence_ms: int, tuning: Tuning) -> bool:
        """It came back from a silence. True when that makes it flapping."""
        self.intervals.clear()
        if self.status != "lost" and silence_ms < tuning.flap_silence * self.every:
            return False
        self.flaps.append(now_ms)
        if len(self.flaps) < tuning.flaps or self.flapping:
            return False
        self.flapping = True
        return True
