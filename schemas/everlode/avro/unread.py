"""What can still be said of a command that cannot be read: who awaits its answer, what is wrong.

A primary answers whatever it can find the sender of. The first of these that holds is taken:

    C3 01, fingerprint │ command_id, aggregate_id, issued_by, reply_to …   any fingerprint
    00, a registry's id│ the same                                          other framings
                       │ the same                                          none
    a JSON object: `header` of it or of its `data` (a CloudEvent in structured mode), or Avro
        in its `data_base64`, framed in one of these ways
    CloudEvents attributes, of that object or of the headers: `id`, `subject`, `replyto`

Bytes under a fingerprint that is no command's are believed only if they name the record's key as
the aggregate.
Invariant: an addressee is a hint on where to send a refusal, and nothing else is made of it.
Source: CloudEvents 1.0.2, JSON format and Kafka binding; `replyto` is an extension of ours. Pure.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from typing import Any, NamedTuple

from fastavro import schemaless_reader
from fastavro.schema import parse_schema

from everlode.errors import ContractError, Refusal
from everlode.events import door
from everlode.events.types import LONGEST_TEXT, fitting

DECODE_ERRORS = (
    EOFError,
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
    TypeError,
    StopIteration,
    RecursionError,
)
"""What a damaged body makes fastavro raise."""
MARKED = 10
"""Bytes before the body in single-object encoding."""
_STARTS = (MARKED, 5, 0)
_LONGEST = LONGEST_TEXT
"""Characters that an answer can hold of each text; of JSON one may be no Unicode at all."""
_FIRST = ("command_id", "aggregate_id", "issued_by", "reply_to")
_HEAD = parse_schema(
    {"type": "record", "name": "Head", "fields": [{"name": n, "type": "string"} for n in _FIRST]}
)
_PREFIX = "everlode."
_TIMES = range(-62_135_596_800_000, 253_402_300_800_000)
"""Milliseconds since 1970 of the years 1 to 9999."""


class Addressee(NamedTuple):
    """To whom the answer to a command goes, and which command it was."""

    command_id: str
    aggregate_id: str
    reply_to: str
    command_type: str
    """Empty when it is not known."""


def addressee(
    name: str | None, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]
) -> Addressee | None:
    """Who awaits the answer to a record of a command topic; None when nobody can be found.

    `name` is what the record's fingerprint stands for, when it is a command's.
    """
    attributes = _attributes(headers)
    kind = name or attributes["type"].removeprefix(_PREFIX)
    document = _document(value)
    for found in (
        *_in_bytes(kind, name is not None, key, value or b""),
        *_in_document(document, key),
        _in_attributes({n: document.get(n) for n in attributes}),
        _in_attributes(attributes),
    ):
        if found is not None and found.reply_to and all(fitting(x, _LONGEST) == x for x in found):
            return found
    return None


def _in_bytes(
    kind: str, trusted: bool, key: bytes | None, data: bytes
) -> Iterator[Addressee | None]:
    for start in (MARKED,) if trusted else _STARTS:
        body = BytesIO(data)
        body.seek(start)
        try:
            head: Any = schemaless_reader(body, _HEAD, None)
        except DECODE_ERRORS:
            continue
        if trusted or head["aggregate_id"].encode() == key:
            yield Addressee(head["command_id"], head["aggregate_id"], head["reply_to"], kind)


def _attributes(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    found = {n: v.decode("utf-8", "replace") for n, v in headers if isinstance(v, bytes)}
    return {n: found.get(f"ce_{n}", "") for n in ("id", "subject", "replyto", "type")}


def _in_attributes(found: Mapping[str, Any]) -> Addressee | None:
    kind = found["type"] if isinstance(found["type"], str) else ""
    return _addressee(found["id"], found["subject"], found["replyto"], kind.removeprefix(_PREFIX))


def _addressee(*texts: Any) -> Addressee | None:
    return Addressee(*texts) if all(isinstance(text, str) for text in texts) else None


def _document(value: bytes | None) -> dict[str, Any]:
    """The record as a JSON object; empty when it is none."""
    if value is None or value[:1] != b"{":
        return {}
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _in_document(document: dict[str, Any], key: bytes | None) -> Iterator[Addressee | None]:
    kind = str(document.get("type", "")).removeprefix(_PREFIX)
    for part in (document.get("data"), document):
        header = part.get("header") if isinstance(part, dict) else None
        if isinstance(header, dict):
            yield _addressee(*(header.get(n) for n in _FIRST if n != "issued_by"), kind)
    data = document.get("data_base64")
    if isinstance(data, str):
        try:
            yield from _in_bytes(kind, False, key, base64.b64decode(data))
        except ValueError:
            return


def misfit(name: str, writer: Any, data: bytes) -> ContractError | None:
    """The first field because of which a record cannot be read as a `name`; None when each can."""
    body = BytesIO(data)
    body.seek(MARKED)
    for field in _fields(writer):
        try:
            kind = parse_schema({"type": "record", "name": "Field", "fields": [_plain(field)]})
            value: Any = schemaless_reader(body, kind, None)
        except DECODE_ERRORS:
            return ContractError(
                f"{name}: {field['name']} cannot be read at byte {body.tell()}",
                code="broken",
                hint=f"expected: a body written with the schema of its fingerprint, {name}",
            )
        number = value[field["name"]]
        if _is_time(field["type"]) and number is not None and number not in _TIMES:
            wrong = door.refused(field["name"], f"is {number}", "milliseconds since 1970")
            return as_contract_error(wrong)
    return None


def as_contract_error(refusal: Refusal) -> ContractError:
    """A refusal of what bytes stand for, as one of the bytes."""
    return ContractError(refusal.message, code=refusal.code, hint=refusal.hint)


def _fields(schema: Any) -> Iterator[dict[str, Any]]:
    """A command's fields in order, those of its header as if they were its own."""
    for field in schema["fields"]:
        if field["name"] == "header" and isinstance(field["type"], dict):
            yield from _fields(field["type"])
        else:
            yield field


def _is_time(kind: Any) -> bool:
    if isinstance(kind, list):
        return any(_is_time(part) for part in kind)
    return isinstance(kind, dict) and kind.get("logicalType") == "timestamp-millis"


def _plain(schema: Any) -> Any:
    """A schema without logical types: what Avro itself reads, numbers for times."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if isinstance(schema, dict):
        return {n: _plain(part) for n, part in schema.items() if n != "logicalType"}
    return schema
