"""What a region has applied.

The Avro schema of the same name documents each field and its unit. Pure.
"""

from __future__ import annotations

from everlode.events.base import Event, Position
from everlode.events.types import (
    Count,
    Items,
)


class Applied(Event):
    """What a region's projection has applied."""

    generation: Count
    positions: Items[Position]
