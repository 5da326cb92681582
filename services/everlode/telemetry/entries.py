"""The closed list of what processes and operations report, as entries. Pure.

An entry is a fact about the reporting process, never a decision: nothing reads it back but people,
their log collectors, and tests. Its class name and fields are for programs and stay as they are;
`text` is for people and may change.

Invariants: an entry holds plain values only (str, int, float, bool, None), no secret, and nothing
that only a log could tell: what others must know is an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from everlode.events.types import StepName
from everlode.telemetry.coordinating import Adopted as Adopted
from everlode.telemetry.coordinating import BroughtHome as BroughtHome
from everlode.telemetry.coordinating import Decided as Decided
from everlode.telemetry.coordinating import Frozen as Frozen
from everlode.telemetry.coordinating import HandlingPublished as HandlingPublished
from everlode.telemetry.coordinating import HandlingStuck as HandlingStuck
from everlode.telemetry.coordinating import NodeNoted as NodeNoted
from everlode.telemetry.coordinating import NotAdopted as NotAdopted
from everlode.telemetry.coordinating import Probed as Probed
from everlode.telemetry.coordinating import RegionNoted as RegionNoted
from everlode.telemetry.coordinating import TakeoverStep as TakeoverStep
from everlode.telemetry.coordinating import WishCarried as WishCarried
from everlode.telemetry.entry import Entry as Entry
from everlode.telemetry.entry import Level as Level
from everlode.telemetry.serving import AskedOverHttp as AskedOverHttp

# -- operations: what lasts ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepEnded(Entry):
    """A step of an operation ended; `subject` is what it was about, e.g. an object's key."""

    step: StepName
    subject: str = ""
    detail: str = ""

    @property
    def text(self) -> str:
        """See Entry."""
        head = f"{self.step} {self.subject}".rstrip()
        return f"{head}: {self.detail}" if self.detail else head


@dataclass(frozen=True, slots=True)
class Progress(Entry):
    """How far something is that lasts: `done` of `total` (0: not known), at `rate` a second."""

    what: str
    done: int
    total: int = 0
    unit: str = "records"
    rate: float = 0.0

    @property
    def text(self) -> str:
        """See Entry."""
        amount = f"{self.done} of {self.total}" if self.total else str(self.done)
        pace = f", {self.rate:.0f}/s" if self.rate else ""
        return f"{self.what}: {amount} {self.unit}{pace}"


@dataclass(frozen=True, slots=True)
class Note(Entry):
    """A remark about what goes on; `about` names the part, e.g. provision, demo."""

    about: str
    remark: str

    @property
    def text(self) -> str:
        """See Entry."""
        return f"{self.about}: {self.remark}"


# -- processes -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProcessReady(Entry):
    """It has joined and begins its work."""

    @property
    def text(self) -> str:
        """See Entry."""
        return "ready"


@dataclass(frozen=True, slots=True)
class ProcessFailed(Entry):
    """An error ends the process; `code` and `hint` are the error's own."""

    level: ClassVar[Level] = "error"

    code: str
    reason: str
    hint: str = ""

    @property
    def text(self) -> str:
        """See Entry."""
        return f"{self.reason}; {self.hint}" if self.hint else self.reason


@dataclass(frozen=True, slots=True)
class PartReady(Entry):
    """A part of a stack serves, after `took_s` seconds."""

    part: str
    took_s: float
    detail: str = ""

    @property
    def text(self) -> str:
        """See Entry."""
        more = f", {self.detail}" if self.detail else ""
        return f"{self.part} ready after {self.took_s:.1f} s{more}"


@dataclass(frozen=True, slots=True)
class StackReady(Entry):
    """All parts of a stack serve, after `took_s` seconds."""

    took_s: float

    @property
    def text(self) -> str:
        """See Entry."""
        return f"ready in {self.took_s:.1f} s"


@dataclass(frozen=True, slots=True)
class Unanswered(Entry):
    """Something did not answer, or is not to be had now; it is tried again."""

    level: ClassVar[Level] = "warning"

    code: str
    reason: str
    hint: str = ""

    @property
    def text(self) -> str:
        """See Entry."""
        return f"{self.reason}; {self.hint}" if self.hint else self.reason


@dataclass(frozen=True, slots=True)
class Logged(Entry):
    """A line that a library, or the SDK, gave to Python's logging."""

    level: ClassVar[Level] = "warning"

    logger: str
    severity: str
    message: str

    @property
    def text(self) -> str:
        """See Entry."""
        return self.message


# -- leading ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Led(Entry):
    """A primary leads `scope` in `epoch`, `took_s` seconds after it learnt that it may."""

    scope: str
    epoch: int
    took_s: float

    @property
    def text(self) -> str:
        """See Entry."""
        return f"{self.scope}: leads epoch {self.epoch} after {self.took_s:.2f} s"


@dataclass(frozen=True, slots=True)
class SteppedDown(Entry):
    """A primary leads no more: its lease ended, or another was chosen."""

    scope: str
    epoch: int

    @property
    def text(self) -> str:
        """See Entry."""
        return f"{self.scope}: steps down from epoch {self.epoch}"


@dataclass(frozen=True, slots=True)
class FencedOutOf(Entry):
    """A primary met its successor's fence at the broker."""

    level: ClassVar[Level] = "warning"

    scope: str
    epoch: int

    @property
    def text(self) -> str:
        """See Entry."""
        return f"{self.scope}: fenced out of epoch {self.epoch}"


@dataclass(frozen=True, slots=True)
class RecordLeftOut(Entry):
    """A record that its reader cannot use; it is kept as a dead letter."""

    level: ClassVar[Level] = "warning"

    topic: str
    partition: int
    offset: int
    reason: str

    @property
    def text(self) -> str:
        """See Entry."""
        return f"{self.topic}/{self.partition}@{self.offset} is left out: {self.reason}"


@dataclass(frozen=True, slots=True)
class InputsRemoved(Entry):
    """Retention removed what a reader had not read: from `wanted` to before `first`."""

    level: ClassVar[Level] = "error"

    topic: str
    partition: int
    wanted: int
    first: int

    @property
    def text(self) -> str:
        """See Entry."""
        return (
            f"{self.topic}/{self.partition}: offsets {self.wanted} to {self.first - 1} were removed"
            f" before they were read; it goes on at {self.first}"
        )


@dataclass(frozen=True, slots=True)
class Undecided(Entry):
    """A primary could not decide an input, by a mistake of ours; it has gone on without it."""

    level: ClassVar[Level] = "error"

    reason: str
    """What it was, with its id, and where it went wrong."""

    @property
    def text(self) -> str:
        """See Entry."""
        return f"not decided: {self.reason}"


@dataclass(frozen=True, slots=True)
class OwnRefused(Entry):
    """A command of a primary to itself was refused, which no rule expects; it is published too."""

    level: ClassVar[Level] = "error"

    rule: str
    key: str
    code: str
    reason: str

    @property
    def text(self) -> str:
        """See Entry."""
        return f"{self.rule} of {self.key} was refused ({self.code}): {self.reason}"


# -- projectors and detectors ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CaughtUp(Entry):
    """A projector has read its logs to their ends in bulk; 0 records: another one did it."""

    records: int
    generation: int

    @property
    def text(self) -> str:
        """See Entry."""
        return f"caught up, {self.records} records in bulk, generation {self.generation}"


@dataclass(frozen=True, slots=True)
class OtherCatchesUp(Entry):
    """Another projector of the group catches up in this one's place."""

    @property
    def text(self) -> str:
        """See Entry."""
        return "another projector catches up"


@dataclass(frozen=True, slots=True)
class PartitionTaken(Entry):
    """A projector took a partition number over, after it had read so many records."""

    partition: int
    records: int

    @property
    def text(self) -> str:
        """See Entry."""
        return f"partition {self.partition} taken over, {self.records} records read"


@dataclass(frozen=True, slots=True)
class PartitionLost(Entry):
    """Another projector owns the partition number now."""

    partition: int

    @property
    def text(self) -> str:
        """See Entry."""
        return f"partition {self.partition} has another projector"


@dataclass(frozen=True, slots=True)
class ReadBack(Entry):
    """Records of a partition number that nobody handed out to its projector were read by itself."""

    level: ClassVar[Level] = "warning"

    topic: str
    partition: int
    position: int
    end: int
    records: int

    @property
    def text(self) -> str:
        """See Entry."""
        return (
            f"{self.topic}/{self.partition} stood at offset {self.position} of {self.end}: "
            f"{self.records} records of its number read back"
        )


@dataclass(frozen=True, slots=True)
class ThreadStands(Entry):
    """What a thread of a process that ends because it stands still is at."""

    level: ClassVar[Level] = "error"

    thread: str
    where: str

    @property
    def text(self) -> str:
        """See Entry."""
        return f"thread {self.thread} is at {self.where}"


@dataclass(frozen=True, slots=True)
class StopHung(Entry):
    """A process was stopped, was still there after so many seconds, and ends at once."""

    level: ClassVar[Level] = "error"

    after_s: float

    @property
    def text(self) -> str:
        """See Entry."""
        return f"did not stop within {self.after_s:.0f} s"


@dataclass(frozen=True, slots=True)
class DetectorEnded(Entry):
    """What a detector has done by its end."""

    records: int
    verdicts: int

    @property
    def text(self) -> str:
        """See Entry."""
        return f"{self.records} records read, {self.verdicts} verdicts published"
