"""Marks that a partition's one writer leaves in it.

The Avro schema of the same name documents each field and its unit. Pure.
"""

from __future__ import annotations

from everlode.events.base import Event, ScopeEpoch
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
