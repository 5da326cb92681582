"""What the fold of a partition number is given and what it gives. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from everlode.errors import EverlodeError
from everlode.events.base import Fact
from everlode.events.states import State

Key = tuple[str, str]
"""(state component, aggregate id)."""


Epochs = Mapping[str, int]
"""Scope → the highest epoch that the folded control log has decided."""


class Known(NamedTuple):
    """What is known of an aggregate: its state (None when deleted), last version and event id.

    An empty `event_id` is unknown: a state that came from a backup.
    """

    state: State | None
    version: int
    event_id: str


UNKNOWN = Known(None, 0, "")


class Incoming(NamedTuple):
    """A fact as it was read, with its place in this cluster."""

    topic: str
    offset: int
    fact: Fact
    value: bytes


class Problem(NamedTuple):
    """Something that must not be passed over.

    `kind`: seq_gap, version_gap, conflict, fenced, foreign_home, above_vector, folded_above,
    fence_known, unlawful, unapplied, unknown_epoch.
    """

    kind: str
    topic: str
    offset: int
    key: str
    event_id: str
    expected: int
    found: int


@dataclass(slots=True)
class Prefix:
    """How much of one topic of this partition number has been applied; `seq` 0: nothing."""

    seq: int = 0
    stamp: int = 0
    next_offset: int = 0


@dataclass(slots=True)
class Outcome:
    """What a batch changed; the newest per key only."""

    changed: dict[Key, Known] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    parked: list[Incoming] = field(default_factory=list)
    released: list[Incoming] = field(default_factory=list)
    opened: dict[tuple[str, str], int] = field(default_factory=dict)
    """(topic, scope) → epoch opened by this batch."""
    openings: dict[tuple[str, str, int], int] = field(default_factory=dict)
    """(topic, scope, epoch) → `seq` of the record that opened it: all of them."""
    deleted: dict[Key, Incoming] = field(default_factory=dict)
    """What has been deleted, by which fact: there is no state left to say it."""
    unlawful: list[tuple[Incoming, EverlodeError]] = field(default_factory=list)
    """Facts that cannot follow the state of their key, each with why."""
    traced: bool = True
    """Whether `steps` are noted: they hold the facts, and a large batch has left the processor's
    cache by its end."""
    steps: list[Incoming] = field(default_factory=list)
    """What was folded, in this order, wherever it came from."""
    folded: int = 0
    """How many facts were folded."""
    repeats: int = 0
    marks: int = 0

    def add(self, later: Outcome) -> None:
        """Take in what a later part of the batch has changed."""
        self.changed |= later.changed
        self.opened |= later.opened
        self.openings |= later.openings
        self.deleted |= later.deleted
        self.problems += later.problems
        self.parked += later.parked
        self.released += later.released
        self.unlawful += later.unlawful
        self.steps += later.steps
        self.folded += later.folded
        self.repeats += later.repeats
        self.marks += later.marks

    def note(self, kind: str, item: Incoming, expected: int, found: int) -> None:
        """Add a problem of an aggregate's fact."""
        envelope = item.fact.envelope
        self.problems.append(
            Problem(kind, item.topic, item.offset, envelope.aggregate_id, envelope.event_id,
                    expected, found)
        )  # fmt: skip
