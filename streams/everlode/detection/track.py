"""What a detector knows of one node. Pure, but for its own memory.

Of a heartbeat what a verdict needs is kept, not the heartbeat: a partition may have 100,000 nodes.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import NamedTuple

from everlode.detection.tuning import Tuning
from everlode.events.base import Evidence
from everlode.events.heartbeats import NodeBeat

WINDOW = 32
"""Intervals between heartbeats that are kept."""
LONGEST_MS = 2**32 - 1
"""An interval that is kept; a node that was silent for longer was lost meanwhile."""


class Said(NamedTuple):
    """When and at which offset a node said something first."""

    at_ms: int
    offset: int


def _none() -> array[int]:
    return array("I")


@dataclass(slots=True)
class Track:
    """One node; times are milliseconds of the barriers."""

    at_ms: int
    """When the last heartbeat came."""
    offset: int
    """Where that is."""
    component: str
    endpoint: str
    says: str
    """The status that it gave itself."""
    every: int
    """Interval between heartbeats that the node promises, ms."""
    work_done: int
    intervals: array[int] = field(default_factory=_none)
    """The last WINDOW distances between heartbeats, ms."""
    status: str = "healthy"
    """healthy, suspected or lost."""
    idle: int = 0
    answer: str = ""
    """Last answer to a probe in this silence; empty without one."""
    answered: Evidence | None = None
    answered_ms: int = -(10**9)
    """When that answer came."""
    asked_ms: int = -(10**9)
    flaps: tuple[int, ...] = ()
    """When it came back from a silence, within the window."""
    flapping: bool = False
    withheld: bool = False
    """It is lost, but as it was flapping no action was asked for."""
    degraded: Said | None = None
    """Since when it has been saying, beat by beat, that it cannot do its work."""
    degraded_given: bool = False

    @classmethod
    def of(cls, heartbeat: NodeBeat, at_ms: int, offset: int) -> Track:
        """A node that is heard of for the first time."""
        track = cls(
            at_ms, offset, heartbeat.component, heartbeat.endpoint, heartbeat.status,
            max(1, heartbeat.interval_ms), heartbeat.work_done,
        )  # fmt: skip
        track.said(heartbeat)
        return track

    def arrived(self, heartbeat: NodeBeat, at_ms: int, offset: int) -> None:
        """A heartbeat came: the node lives."""
        if self.status != "healthy":
            self.degraded = None  # what it says counts from its return on
        if self.answer or self.status != "healthy":
            self.status, self.answer, self.answered = "healthy", "", None
            self.answered_ms = self.asked_ms = -(10**9)
            self.withheld = False
        self.at_ms, self.offset = at_ms, offset
        self.work_done, self.says = heartbeat.work_done, heartbeat.status
        self.every = max(1, heartbeat.interval_ms)
        if heartbeat.endpoint != self.endpoint:
            self.endpoint = heartbeat.endpoint
        if heartbeat.component != self.component:
            self.component = heartbeat.component
        if self.says == "degraded" or self.degraded is not None:
            self.said(heartbeat)

    def after(self, silence_ms: int) -> None:
        """It beat so long after its last beat."""
        self.intervals.append(min(silence_ms, LONGEST_MS))
        if len(self.intervals) > WINDOW:
            del self.intervals[0]

    def said(self, heartbeat: NodeBeat) -> None:
        """What the node says of itself in its last heartbeat."""
        if heartbeat.status != "degraded":
            self.degraded, self.degraded_given = None, False
        elif self.degraded is None:
            self.degraded, self.degraded_given = Said(self.at_ms, self.offset), False

    def forget_flaps(self, now_ms: int, tuning: Tuning) -> None:
        """At a barrier: those from before the window no longer count."""
        self.flaps = tuple(at for at in self.flaps if now_ms - at <= tuning.flap_window_ms)
        if len(self.flaps) < tuning.flaps:
            self.flapping = False

    def returned(self, now_ms: int, silence_ms: int, tuning: Tuning) -> bool:
        """It came back from a silence. True when that makes it flapping."""
        del self.intervals[:]
        if self.status != "lost" and silence_ms < tuning.flap_silence * self.every:
            return False
        self.flaps = (*self.flaps, now_ms)
        if len(self.flaps) < tuning.flaps or self.flapping:
            return False
        self.flapping = True
        return True
