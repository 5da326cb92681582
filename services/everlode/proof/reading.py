"""The proof's own reading of Avro: by the schema files and the published fingerprints alone.

`C3 01`, eight bytes of fingerprint, the body (see docs/format.md). The product's codec, models and
catalogue are not used: what they all agree on, and is wrong, is seen here. Only today's schemas are
read: a run of one build wrote all of it. Pure, but for files of the package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from io import BytesIO
from typing import Any

import fastavro

from everlode.errors import IntegrityError

MARKER = b"\xc3\x01"
MARKED = 10
NAMESPACE = "everlode.events."


@cache
def _sources() -> dict[str, Any]:
    """Schema by the record's name, as its file has it."""
    folders = (resources.files("everlode.events") / "avsc").iterdir()
    files = [file for folder in folders for file in folder.iterdir()]
    return {
        file.name.removesuffix(".avsc"): json.loads(file.read_text("utf-8"))
        for file in files
        if file.name.endswith(".avsc")
    }


def _whole(part: Any, known: set[str]) -> Any:
    """A schema with the records that it names put in, each where it is named first."""
    if isinstance(part, str) and part.startswith(NAMESPACE) and part not in known:
        known.add(part)
        return _whole(_sources()[part.removeprefix(NAMESPACE)], known)
    if isinstance(part, list):
        return [_whole(item, known) for item in part]
    if isinstance(part, Mapping):
        inner = {"type", "items", "values", "fields"}
        return {k: _whole(v, known) if k in inner else v for k, v in part.items()}
    return part


@cache
def _schemas() -> dict[bytes, tuple[str, Any]]:
    """Fingerprint → the record's name and its schema, of today's."""
    book = json.loads((resources.files("everlode.events") / "fingerprints.json").read_text("utf-8"))
    return {
        bytes.fromhex(item["fingerprint"]): (
            item["type"],
            fastavro.parse_schema(_whole(NAMESPACE + item["type"], set()), named_schemas={}),
        )
        for item in book
        if item["current"]
    }


def read_record(raw: bytes) -> tuple[str, dict[str, Any]]:
    """Name and plain values of a record. Raises: IntegrityError: no schema of today reads it."""
    name, schema = _schemas().get(raw[2:MARKED], ("", None))
    if raw[:2] != MARKER or schema is None:
        raise IntegrityError(f"{raw[:MARKED].hex()} is the mark of no schema of today")
    body = BytesIO(raw)
    body.seek(MARKED)
    value: Any = fastavro.schemaless_reader(body, schema, None)
    if body.tell() != len(raw):
        raise IntegrityError(f"{name}: {len(raw) - body.tell()} bytes too many")
    return name, value
