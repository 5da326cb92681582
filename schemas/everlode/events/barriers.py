"""Marks that a partition's one writer leaves in it.

The Avro schema of the same name documents each field and its unit. Pure.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from everlode.events.base import Envelope, Event, ScopeEpoch
from everlode.events.types import (
    Id,
    Items,
)


class Barrier(Event):
    """A mark that a partition's writer lives; it moves stamps and closes silence."""

    writer_id: Id


class EpochOpened(Event):
    """A new primary fenced the partition; lower epochs of these scopes end here."""

    node_id: Id
    scopes: Items[ScopeEpoch]


class Marker(NamedTuple):
    """Makes the envelopes of the marks of a fact topic's one writer, under its scope and epoch."""

    topic: str
    origin: str
    scope: str
    epoch: int
    writer_id: str

    def envelope(self, partition: int, seq: int, stamp: int, at: datetime) -> Envelope:
        """The envelope of the mark that is record `seq` of a partition."""
        return Envelope(
            event_id=f"{self.topic}/{partition}/{seq}/{self.epoch}",
            aggregate_id=self.writer_id,
            version=0,
            origin=self.origin,
            scope=self.scope,
            epoch=self.epoch,
            seq=seq,
            stamp=stamp,
            occurred_at=at,
            correlation_id=self.writer_id,
        )
