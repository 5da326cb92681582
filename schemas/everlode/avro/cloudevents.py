"""CloudEvents 1.0 headers in Kafka binary mode, for tools; the truth is in the body.

Source: CloudEvents Kafka Protocol Binding 1.0.2, section 3.2. Pure.
"""

from __future__ import annotations

from everlode.events.base import CommandHeader, Envelope

CONTENT_TYPE = b"application/avro"
Headers = list[tuple[str, bytes]]


def event_headers(envelope: Envelope, type_name: str) -> Headers:
    """Headers of an event."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", envelope.event_id.encode()),
        ("ce_type", f"everlode.{type_name}".encode()),
        ("ce_source", f"/{envelope.origin}/{envelope.scope}".encode()),
        ("ce_subject", envelope.aggregate_id.encode()),
        ("ce_time", envelope.occurred_at.isoformat().encode()),
        ("content-type", CONTENT_TYPE),
    ]


def command_headers(header: CommandHeader, type_name: str) -> Headers:
    """Headers of a command."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", header.command_id.encode()),
        ("ce_type", f"everlode.{type_name}".encode()),
        ("ce_source", f"/{header.issued_by}".encode()),
        ("ce_subject", header.aggregate_id.encode()),
        ("ce_time", header.issued_at.isoformat().encode()),
        ("content-type", CONTENT_TYPE),
    ]
