"""docs/fingerprints.md and the list in the package are made from the schemas.

Running this file writes the document; `python -m everlode.avro.fingerprints` the list.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from everlode.avro import fingerprints, schemas
from everlode.avro.codec import MARKER, Codec
from everlode.cli.main import run

DOCUMENT = Path(__file__).parents[2] / "docs" / "fingerprints.md"
HEAD = """\
# Fingerprints

Every record begins with `C3 01` and the eight bytes below, in this order, of its writer's schema.
**Take them from here**, not from your library: CRC-64-AVRO is taken of a canonical form that
libraries write differently where a type is logical or a record lies in another, as in all of ours.
Java's Avro and Python's fastavro compute these. `everlode schema show TYPE --json` prints a whole
schema with its fingerprints; `everlode/events/fingerprints.json` in the wheel has the list for
programs, with those of schemas that once were.

What other libraries compute of the whole schema is known, and such a record is read, in either byte
order: apache-avro (Rust), goavro and hamba/avro (Go), in the last columns.
"""


def row(entry: dict[str, object]) -> str:
    computed = entry["computed"]
    assert isinstance(computed, dict)
    cells = (entry["type"], entry["topic"], f"`{entry['fingerprint']}`")
    return "| " + " | ".join(map(str, (*cells, *(f"`{v}`" for v in computed.values())))) + " |"


def document() -> str:
    names = ["type", "topic", "**fingerprint**", *fingerprints.FORMS]
    rows = [row(entry) for entry in schemas.published() if entry["current"]]
    return "\n".join([HEAD, f"| {' | '.join(names)} |", "|---" * len(names) + "|", *rows, ""])


def test_list_in_the_package_is_made_from_the_schemas() -> None:
    assert fingerprints.LIST.read_text() == fingerprints.text(), (
        "run: python -m everlode.avro.fingerprints"
    )
    current = {e["type"]: e["fingerprint"] for e in schemas.published() if e["current"]}
    assert current == {name: schemas.fingerprint(name).hex() for name in schemas.names()}


def test_document_is_made_from_the_list() -> None:
    assert DOCUMENT.read_text() == document(), (
        f"run: python {Path(__file__).relative_to(Path.cwd())}"
    )


def test_each_fingerprint_in_either_byte_order_stands_for_one_schema() -> None:
    found: dict[bytes, bytes] = {}
    for entry in schemas.published():
        for mark in schemas.meanings(entry):
            own = bytes.fromhex(entry["fingerprint"])
            assert found.setdefault(mark, own) == own
    assert len(found) > 700
    codec = Codec()
    for entry in schemas.published():
        for mark in schemas.meanings(entry):
            assert codec.type_name(MARKER + mark) == entry["type"]


def test_command_shows_the_list_and_a_whole_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["schemas"]
    assert {row["type"]: row["fingerprint"] for row in rows} == {
        name: schemas.fingerprint(name).hex() for name in schemas.names()
    }
    assert run(["schema", "show", "SubmitTask", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert schemas.fingerprint_of(shown["schema"]).hex() == shown["fingerprint"]
    assert shown["computed"] == fingerprints.computed(shown["schema"])
    assert run(["schema", "show", "SubmitTask"]) == 0
    assert shown["fingerprint"] in capsys.readouterr().out
    assert run(["schema", "show", "Nothing", "--json"]) == 10


if __name__ == "__main__":
    DOCUMENT.write_text(document())
