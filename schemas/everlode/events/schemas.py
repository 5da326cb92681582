"""Writers' schemas, so that no registry has to live through a disaster.

The Avro schema of the same name documents each field and its unit. Pure.
"""

from __future__ import annotations

from everlode.events.base import Event
from everlode.events.types import (
    Document,
    Text,
)


class SchemaPublished(Event):
    """A writer's schema."""

    fingerprint: Text
    schema_name: Text
    document: Document
