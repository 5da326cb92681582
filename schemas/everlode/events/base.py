"""Envelope, headers and the small records that events share.

Invariants: every model is frozen, strict and closed; a value that Avro would silently change
(1.7 or True for a long, a naive time, NaN, an unknown field) is refused. Pure.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from everlode.events.types import (
    Count,
    Id,
    Instant,
    Items,
    Long,
    Text,
)


class Record(BaseModel):
    """Base of everything that crosses the wire."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Event(Record):
    """Base of all events: the body after the envelope. The class name is the event type."""


class Command(Record):
    """Base of all commands: the body after the header. The class name is the command type."""

    component: ClassVar[str]


class OwnCommand(Command):
    """Base of what only a primary asks, of itself: nobody outside has any business with it."""


class OperatorCommand(Command):
    """Base of what outside only an operator asks; a primary asks some of it of itself."""


class Envelope(Record):
    """What every event carries, first in its body."""

    event_id: Id
    aggregate_id: Id
    version: Count
    origin: Text
    scope: Text
    epoch: Count
    seq: Count
    stamp: Count
    occurred_at: Instant
    command_id: Id | None = None
    correlation_id: Id
    causation_id: Id | None = None
    source_topic: Text | None = None
    source_partition: Count | None = None
    source_position: Count | None = None


class CommandHeader(Record):
    """What every command carries, first in its body."""

    command_id: Id
    aggregate_id: Id
    issued_by: Text
    reply_to: Text
    issued_at: Instant
    correlation_id: Id
    causation_id: Id | None = None


class LedgerEntry(Record):
    """One line of a double-entry posting; the lines of one event sum to zero."""

    account: Text
    amount_micro: Long


class Position(Record):
    """A position in an origin partition, valid in every cluster."""

    topic: Text
    partition: Count
    seq: Count


class Evidence(Record):
    """Where a statement can be checked."""

    topic: Text
    partition: Long
    offset: Long
    note: Text


class FactRef(Record):
    """Where a fact stands in the log of its home region."""

    event_id: Id
    event_type: Text
    topic: Text
    partition: Count
    offset: Count
    seq: Count
    version: Count


class ScopeEpoch(Record):
    """An epoch of one scope."""

    scope: Text
    epoch: Count


class CommandAnswered(Record):
    """The answer to a command, on the replies topic; also to one without ids, a refusal."""

    command_id: Text
    command_type: Text
    aggregate_id: Text
    reply_to: Text
    region: Text
    node_id: Id
    outcome: Text
    code: Text
    message: Text
    hint: Text
    facts: Items[FactRef]
    level: Count
    answered_at: Instant


class Fact(NamedTuple):
    """An event with its envelope, as it stands in the log."""

    envelope: Envelope
    data: Event


class Request(NamedTuple):
    """A command with its header, as it stands in a command topic."""

    header: CommandHeader
    data: Command
