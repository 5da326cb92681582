"""CloudEvents 1.0 headers in Kafka binary mode, for tools; the truth is in the body.

Invariant: a source is a URI reference, whatever its parts hold: what RFC 3986 does not allow in a
segment of a path is percent-encoded, in UTF-8. Records of older builds carry it as it was; nothing
of ours reads it. Source: CloudEvents Kafka Protocol Binding 1.0.2, section 3.2. Pure.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import shake_256
from urllib.parse import quote

from everlode.events.base import CommandHeader, Envelope

CONTENT_TYPE = b"application/avro"
Headers = list[tuple[str, bytes]]
_SEGMENT = "!$&'()*+,;=:@"
"""What may stand in a segment of a path as it is, beside letters, digits and `-._~`."""
URGENT_BYTES = 8_192
"""Whoever only follows lets a fetch wait at the broker for this much, or for its time: it is not
woken by each record. What must not wait is this heavy, so that every such fetch ends at once."""
_PADDING = ("padding", shake_256(b"everlode").digest(URGENT_BYTES))  # compression leaves it so

_VERSION = ("ce_specversion", b"1.0")
_CONTENT = ("content-type", CONTENT_TYPE)


@lru_cache(1024)
def _type(name: str) -> tuple[str, bytes]:
    return "ce_type", f"everlode.{name}".encode()


def source_of(origin: str, scope: str) -> str:
    """Who an event is from, as a URI reference: `/eu.1/task-manager/eu`; `/eu.1` without scope."""
    within = f"/{quote(scope, _SEGMENT + '/')}" if scope else ""
    return f"/{quote(origin, _SEGMENT)}{within}"


@lru_cache(1024)
def _source(origin: str, scope: str) -> tuple[str, bytes]:
    return "ce_source", source_of(origin, scope).encode()


def event_headers(envelope: Envelope, type_name: str) -> Headers:
    """Headers of an event."""
    return [
        _VERSION,
        ("ce_id", envelope.event_id.encode()),
        _type(type_name),
        _source(envelope.origin, envelope.scope),
        ("ce_subject", envelope.aggregate_id.encode()),
        ("ce_time", envelope.occurred_at.isoformat().encode()),
        _CONTENT,
    ]


def urgent(headers: Headers) -> Headers:
    """Headers of a record that no follower's fetch lets wait; readers pass the padding over."""
    return [*headers, _PADDING]


def command_headers(header: CommandHeader, type_name: str) -> Headers:
    """Headers of a command."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", header.command_id.encode()),
        ("ce_type", f"everlode.{type_name}".encode()),
        ("ce_source", f"/{quote(header.issued_by, _SEGMENT)}".encode()),
        ("ce_subject", header.aggregate_id.encode()),
        ("ce_time", header.issued_at.isoformat().encode()),
        ("ce_replyto", header.reply_to.encode()),
        ("content-type", CONTENT_TYPE),
    ]
