"""Avro schemas of the contract: loading, fingerprints, and the book of known writers' schemas.

Pure, but for reading the package's own `avsc/`, `past/` and `fingerprints.json` once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from fastavro.schema import fingerprint as _fingerprint
from fastavro.schema import parse_schema, to_parsing_canonical_form

from everlode.errors import ContractError

NAMESPACE = "everlode.events"
LIST = "fingerprints.json"
_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


@lru_cache(maxsize=1)
def _sources() -> dict[str, tuple[str, str]]:
    """Name → its folder below `avsc/`, its text."""
    folders = files("everlode.events").joinpath("avsc").iterdir()
    return {
        entry.name.removesuffix(".avsc"): (folder.name, entry.read_text("utf-8"))
        for folder in folders
        if folder.is_dir()
        for entry in folder.iterdir()
        if entry.name.endswith(".avsc")
    }


@lru_cache(maxsize=1)
def _past() -> dict[str, str]:
    """Fingerprint in hex → the line that has its schema."""
    books = files("everlode.events").joinpath("past").iterdir()
    lines = (line for book in books for line in book.read_text("utf-8").splitlines())
    return {json.loads(line)["fingerprint"]: line for line in lines}


def past(mark: bytes) -> str | None:
    """A schema that once was ours, as JSON, by its fingerprint; None when none has it."""
    line = _past().get(mark.hex())
    return None if line is None else json.dumps(json.loads(line)["schema"])


@lru_cache(maxsize=1)
def published() -> list[dict[str, Any]]:
    """The fingerprints as the package publishes them; see `fingerprints.listed`."""
    text = files("everlode.events").joinpath(LIST).read_text("utf-8")
    found: list[dict[str, Any]] = json.loads(text)
    return found


def meanings(entry: dict[str, Any]) -> Iterator[bytes]:
    """All fingerprints that stand for a published schema, its own first, in both byte orders."""
    for mark in (entry["fingerprint"], *entry["computed"].values()):
        yield bytes.fromhex(mark)
        yield bytes.fromhex(mark)[::-1]


@lru_cache(maxsize=1)
def _meant() -> dict[bytes, bytes]:
    return {
        mark: bytes.fromhex(entry["fingerprint"])
        for entry in published()
        for mark in meanings(entry)
    }


def meant(mark: bytes) -> bytes | None:
    """The fingerprint of a schema that is or was ours, for `mark` as another library has it."""
    return _meant().get(mark)


def folder(name: str) -> str:
    """Folder of the schema `name` below `avsc/`, which is the name of its book in `past/`.

    Its topic's suffix, or `commands`, `replies`, `states`; `shared` for what several of them use
    or what goes to every topic.
    """
    return _sources()[name][0]


def source(name: str) -> dict[str, Any]:
    """The schema `name` as it is written: records of ours that it uses are names."""
    written: dict[str, Any] = json.loads(_sources()[name][1])
    return written


def names() -> tuple[str, ...]:
    """Names of all schemas of the contract, sorted."""
    return tuple(sorted(_sources()))


def _inline(schema: Any, seen: set[str]) -> Any:
    """Put each named record of ours in at its first use, as Avro wants it."""
    if isinstance(schema, list):
        return [_inline(item, seen) for item in schema]
    if isinstance(schema, str):
        short = schema.removeprefix(NAMESPACE + ".")
        if schema in _PRIMITIVES or schema in seen:
            return schema
        return _inline(source(short), seen)
    if schema["type"] == "record":
        seen.add(f"{schema['namespace']}.{schema['name']}")
        fields = [{**f, "type": _inline(f["type"], seen)} for f in schema["fields"]]
        return {**schema, "fields": fields}
    if schema["type"] == "array":
        return {**schema, "items": _inline(schema["items"], seen)}
    return schema


@cache
def raw(name: str) -> dict[str, Any]:
    """The whole schema `name`, with shared records put in; not to be changed.

    Raises:
        ContractError: there is no such schema.
    """
    if name not in _sources():
        raise ContractError(f"no schema is named {name!r}", code="unknown_schema")
    result: dict[str, Any] = _inline(source(name), set())
    return result


@cache
def parsed(name: str) -> Any:
    """The schema in fastavro's parsed form."""
    return parse_schema(raw(name), named_schemas={})


def fingerprint_of(schema: dict[str, Any]) -> bytes:
    """CRC-64-AVRO of a schema: eight bytes, little-endian, as single-object encoding has it."""
    return bytes.fromhex(_fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


@cache
def fingerprint(name: str) -> bytes:
    """Fingerprint of the schema `name`."""
    return fingerprint_of(raw(name))
