"""Fingerprints as other languages have them: the published list, and what each library computes.

CRC-64-AVRO is taken of a schema's canonical form, and libraries write that form differently where
a type is logical (all our schemas have times) or a record lies in another:

    ours, Java     "long"                                             everlode.events.Vote
    apache-avro    {"type":"long"}                                    everlode.events.Vote
    hamba/avro     {"type":"long","logicalType":"timestamp-millis"}   everlode.events.Vote
    goavro         {"type":"long"}                    everlode.events.everlode.events.Vote

So programs take the eight bytes from the list: `everlode/events/fingerprints.json` in the wheel,
a line for every schema that is or was. A record under one that a library has computed of the whole
schema, in either byte order, is read all the same (`schemas.meant`).
Invariant: each of those stands for one schema. Source: the libraries named, in the versions that
tests/languages asks. Pure, but for writing the list.

    python -m everlode.avro.fingerprints     write the list anew, after `compat record`
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from fastavro.schema import fingerprint as _crc

from everlode.avro import compat, schemas

LIST = Path(__file__).parents[1] / "events" / schemas.LIST


class Form(NamedTuple):
    """How a library writes the canonical form of a schema."""

    logical: bool
    """Whether logical types stay in it."""
    nested: bool
    """Whether a record's namespace is put behind that of the record around it."""


FORMS = {
    "apache-avro": Form(logical=False, nested=False),
    "goavro": Form(logical=False, nested=True),
    "hamba/avro": Form(logical=True, nested=False),
}


def canonical(schema: Any, form: Form, around: str = "") -> str:
    """The canonical form of a whole schema (see `schemas.raw`) as a library writes it."""
    if isinstance(schema, str):
        return f'"{schema}"'
    if isinstance(schema, list):
        return "[" + ",".join(canonical(part, form, around) for part in schema) + "]"
    kind = schema["type"]
    if kind == "record":
        space = ".".join(filter(None, (around, schema["namespace"])))
        inner = space if form.nested else ""
        fields = ",".join(
            f'{{"name":"{f["name"]}","type":{canonical(f["type"], form, inner)}}}'
            for f in schema["fields"]
        )
        return f'{{"name":"{space}.{schema["name"]}","type":"record","fields":[{fields}]}}'
    for part in ("items", "values"):
        if part in schema:
            return f'{{"type":"{kind}","{part}":{canonical(schema[part], form, around)}}}'
    logical = f',"logicalType":"{schema["logicalType"]}"' * form.logical
    return f'{{"type":"{kind}"{logical}}}'


def computed(schema: dict[str, Any]) -> dict[str, str]:
    """Library → the fingerprint that it computes of a whole schema: hex, lowest byte first."""
    return {name: _crc(canonical(schema, form), "CRC-64-AVRO") for name, form in FORMS.items()}


def listed() -> list[dict[str, Any]]:
    """Each schema that is or was: `type`, `topic`, `fingerprint`, `computed`, and `current`.

    Sorted by type, today's first; all fingerprints are hex of the bytes as they stand in a record.
    """
    found = [
        {
            "type": name,
            "topic": schemas.folder(name),
            "current": mark == schemas.fingerprint(name).hex(),
            "fingerprint": mark,
            "computed": computed(schema),
        }
        for name, versions in sorted(compat.load_past().items())
        for mark, schema in versions.items()
    ]
    return sorted(found, key=lambda entry: (entry["type"], not entry["current"]))


def text() -> str:
    """What `fingerprints.json` must hold."""
    lines = ",\n".join(json.dumps(entry) for entry in listed())
    return f"[\n{lines}\n]\n"


if __name__ == "__main__":
    LIST.write_text(text(), encoding="utf-8")
