"""What a primary's core is given: records that were read, decoded, and the time; and what it never
will be given. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from everlode.avro.unread import Addressee
from everlode.control.fold import ControlState
from everlode.errors import Refusal
from everlode.events.base import Command, CommandHeader, Fact
from everlode.state.view import Where
from everlode.telemetry.entries import InputsRemoved
from everlode.topics.place import TopicPartition


class Tick(NamedTuple):
    """The time of a turn: one reading of each clock."""

    event_now: datetime
    """Event time, whole milliseconds."""
    wall_ms: int
    """Milliseconds since 1970, of this machine: for stamps."""
    mono_s: float
    """Seconds on the monotonic clock: for what is due again after a while."""


class CommandRead(NamedTuple):
    """A command from outside."""

    where: Where
    header: CommandHeader
    data: Command


class RefusedRead(NamedTuple):
    """A command that is not even decided, but answered; it is kept as a dead letter too."""

    where: Where
    to: Addressee
    wrong: Refusal


class FactRead(NamedTuple):
    """A fact that may be the cause of commands to oneself."""

    where: Where
    fact: Fact


class NothingRead(NamedTuple):
    """A record that no reader can use; its position counts all the same."""

    where: Where


def removed(
    wanted: Mapping[TopicPartition, int], firsts: Mapping[TopicPartition, int], commands: str
) -> list[InputsRemoved]:
    """What of its inputs a primary will never read: it went before `wanted` was there.

    `commands`: the one topic without transactions. In all others the mark of the last transaction
    may stand between what was read and what is there, and nothing is lost.
    """
    return [
        InputsRemoved(*at, next_, firsts[at])
        for at, next_ in sorted(wanted.items())
        if firsts[at] - next_ > (0 if at[0] == commands else 1)
    ]


Input = CommandRead | RefusedRead | FactRead | NothingRead


class Turn(NamedTuple):
    """All that a turn depends on, besides what the core holds."""

    led: Mapping[str, int]
    """Home → epoch in which the node may act for its scope now."""
    inputs: Sequence[Input]
    """In order within a partition."""
    tick: Tick
    control: ControlState
