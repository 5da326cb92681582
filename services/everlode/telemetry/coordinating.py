"""What coordinators report, and frozen primaries; part of the list in `entries`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from everlode.telemetry.entry import Entry, Level


@dataclass(frozen=True, slots=True)
class Decided(Entry):
    """A decision was appended to the control log; whether it counts is known once read back."""

    scope: str
    epoch: int
    primary: str
    reason: str

    @property
    def text(self) -> str:
        """See Entry."""
        return f"decided: {self.scope} epoch {self.epoch} -> {self.primary} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Probed(Entry):
    """A suspected node was asked whether it lives: alive, refused or no-answer."""

    node: str
    answer: str
    took_ms: int

    @property
    def text(self) -> str:
        """See Entry."""
        return f"probe: {self.node} {self.answer} after {self.took_ms} ms"


@dataclass(frozen=True, slots=True)
class NodeNoted(Entry):
    """A node's status was appended to the control log at `position`."""

    node: str
    status: str
    position: int
    reason: str

    @property
    def text(self) -> str:
        """See Entry."""
        return f"{self.status}: {self.node}, noted at {self.position}: {self.reason}"


@dataclass(frozen=True, slots=True)
class RegionNoted(Entry):
    """What is heard of another region has changed: LinkStale, RegionSuspected or RegionLost."""

    region: str
    finding: str
    over: bool
    silence_ms: int

    @property
    def text(self) -> str:
        """See Entry."""
        how = "over" if self.over else f"silent for {self.silence_ms / 1000:.1f} s"
        return f"{self.finding}: {self.region}: {how}"


@dataclass(frozen=True, slots=True)
class TakeoverStep(Entry):
    """A step of the takeover of a lost region was taken; whether it counts is known once read."""

    region: str
    what: str

    @property
    def text(self) -> str:
        """See Entry."""
        return f"takeover of {self.region}: {self.what}"


@dataclass(frozen=True, slots=True)
class Adopted(Entry):
    """A node knows what counts of a fenced region's facts, and may serve its scope."""

    region: str
    component: str
    aggregates: int

    @property
    def text(self) -> str:
        """See Entry."""
        return f"adopted: {self.aggregates} {self.component} of {self.region}"


@dataclass(frozen=True, slots=True)
class BroughtHome(Entry):
    """A node at home knows what was made of its aggregates elsewhere, of one partition."""

    place: str
    aggregates: int

    @property
    def text(self) -> str:
        """See Entry."""
        return f"brought home: {self.aggregates} aggregates of {self.place}"


@dataclass(frozen=True, slots=True)
class NotAdopted(Entry):
    """A node cannot know what counts of a fenced region's facts, and does not serve its scope."""

    level: ClassVar[Level] = "error"

    region: str
    reason: str

    @property
    def text(self) -> str:
        """See Entry."""
        return f"not adopted: {self.region}: {self.reason}"


@dataclass(frozen=True, slots=True)
class HandlingPublished(Entry):
    """An event about the handling of a lost node was published: started, a step, ended."""

    node: str
    what: str

    @property
    def text(self) -> str:
        """See Entry."""
        return f"{self.node}: {self.what}"


@dataclass(frozen=True, slots=True)
class HandlingStuck(Entry):
    """A lost node cannot be handled now."""

    level: ClassVar[Level] = "warning"

    node: str
    reason: str

    @property
    def text(self) -> str:
        """See Entry."""
        return f"stuck: {self.reason}"


@dataclass(frozen=True, slots=True)
class WishCarried(Entry):
    """The next step of an operator's wish was taken, or is waited for."""

    operation: str
    wish: str
    step: str
    detail: str

    @property
    def text(self) -> str:
        """See Entry."""
        return f"{self.wish}: {self.step}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Frozen(Entry):
    """A primary takes no more commands, for an operator's wish."""

    scope: str
    wish: str
    target: str

    @property
    def text(self) -> str:
        """See Entry."""
        return f"{self.scope}: frozen for {self.wish}; {self.target} is to lead"
