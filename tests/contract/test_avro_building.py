"""The quick way from Avro's values to a model finds what pydantic finds, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, ValidationError

from everlode.avro import codec, schemas
from everlode.avro.building import builder
from everlode.avro.codec import Codec
from everlode.events.barriers import Barrier
from everlode.events.base import CommandAnswered, CommandHeader, Envelope, LedgerEntry, Record
from everlode.events.catalogue import COMMANDS, EVENTS
from everlode.events.types import Id, Items

MODELS: dict[str, type[Record]] = {name: kind.model for name, kind in EVENTS.items()}
MODELS["Envelope"] = Envelope
MODELS |= COMMANDS | {model.__name__: model for model in (CommandHeader, CommandAnswered)}
WORDS = ["", "a", "\u00e9" * 255, "a" * 256, "a" * 4096, "a" * 4097, "a" * 262_145, "expert"]
WORDS += ["0" * 64, "0" * 63, "0" * 65, "A" * 64, "0" * 64 + "\n", "\n" + "0" * 64]
NUMBERS = [-(2**63), -1, 0, 1, 1_000_000, 1_000_001, 2**63 - 1]
FLOATS = [0.0, -1.5, 1.7e308, float("nan"), float("inf"), float("-inf")]
TIME = datetime(2026, 1, 2, tzinfo=UTC)


def of_type(kind: Any) -> list[Any]:
    """Values at and beyond all limits that Avro gives for a field of this type."""
    if isinstance(kind, list):
        return [value for part in kind for value in of_type(part)]
    if isinstance(kind, dict) and kind["type"] == "array":
        items = of_type(kind["items"])
        return [[], *([item] for item in items), [items[0]] * 10_000, [items[0]] * 10_001]
    if isinstance(kind, dict) and kind["type"] == "record":
        return [changed for _, changed in changes(kind)]
    if isinstance(kind, dict):
        return [TIME]
    simple: dict[str, list[Any]] = {
        "null": [None],
        "string": WORDS,
        "long": NUMBERS,
        "double": FLOATS,
        "boolean": [True, False],
    }
    return simple[kind]


def plain(kind: Any) -> Any:
    """A value that fits most fields of this type."""
    if isinstance(kind, dict) and kind["type"] == "record":
        return {field["name"]: plain(field["type"]) for field in kind["fields"]}
    if isinstance(kind, dict) and kind["type"] == "array":
        return [plain(kind["items"])]
    values = of_type(kind)
    return values[1] if values is WORDS else values[3] if values is NUMBERS else values[0]


def changes(schema: Any) -> list[tuple[str, dict[str, Any]]]:
    """(field, value of the whole), one field taken to each of its values."""
    whole = {field["name"]: plain(field["type"]) for field in schema["fields"]}
    return [
        (field["name"], {**whole, field["name"]: value})
        for field in schema["fields"]
        for value in of_type(field["type"])
    ]


def schema_of(name: str) -> dict[str, Any]:
    found = deepcopy(schemas.raw(name))
    found["fields"] = [f for f in found["fields"] if f["name"] not in ("envelope", "header")]
    return found


def repaired(model: type[Record], value: dict[str, Any]) -> dict[str, Any]:
    """With every other field that pydantic refuses made right, where that is easy."""
    for _ in range(20):
        try:
            model.model_validate(deepcopy(value))
        except ValidationError as error:
            for item in error.errors():
                if item["type"] == "string_pattern_mismatch":
                    value[str(item["loc"][0])] = "0" * 64
                elif item["type"] == "literal_error":
                    value[str(item["loc"][0])] = item["ctx"]["expected"].split("'")[1]
                else:
                    return value
        else:
            return value
    return value


def answer(make: Callable[[Any], Record], value: dict[str, Any]) -> Any:
    """What comes of a value: the model with all that it knows, or the kind of complaint."""
    try:
        made = make(deepcopy(value))
    except ValidationError as error:
        return error.errors()[0]["type"]
    return type(made), made, made.model_fields_set, made.model_dump(), repr(made)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_value_at_every_limit_is_taken_or_refused_as_pydantic_does(name: str) -> None:
    model, build, schema = MODELS[name], builder(MODELS[name]), schema_of(name)
    assert build.__name__ == "build", "this model is pydantic's alone"
    whole = repaired(model, plain(schema))
    answers = [answer(model.model_validate, whole)]
    for field, changed in changes(schema):
        value = {**whole, field: changed[field]}
        answers.append(answer(model.model_validate, value))
        assert answer(build, value) == answers[-1]
    bounded = any(part["type"] != "boolean" for part in schema["fields"])
    assert {type(found) for found in answers} == ({str, tuple} if bounded else {tuple})


def test_model_that_checks_more_is_left_to_pydantic() -> None:
    class Odd(Record):
        name: Annotated[Id, AfterValidator(str.upper)]

    class Deep(Record):
        names: Items[Id] | None

    assert builder(Odd)({"name": "a"}) == Odd(name="a")
    assert builder(Deep)({"names": ["a"]}) == Deep(names=("a",))
    assert {builder(Odd).__name__, builder(Deep).__name__} == {"validate_python"}
    with pytest.raises(ValidationError):
        builder(Odd)({"name": ""})


def test_built_model_is_frozen_and_copied_like_any_other() -> None:
    made: LedgerEntry = builder(LedgerEntry)({"account": "a", "amount_micro": 1})
    with pytest.raises(ValidationError, match="frozen"):
        made.account = "b"
    copied = made.model_copy(update={"amount_micro": 2})
    assert copied == LedgerEntry(account="a", amount_micro=2)
    assert made == LedgerEntry(account="a", amount_micro=1)


def test_record_of_another_writers_schema_is_checked_by_pydantic() -> None:
    envelope = Envelope(
        event_id="e", aggregate_id="a", version=1, origin="o", scope="s", epoch=1, seq=1, stamp=1,
        occurred_at=TIME, correlation_id="c",
    )  # fmt: skip
    book = Codec()
    older = deepcopy(schemas.raw("Barrier"))
    older["fields"].append({"name": "more", "type": "string", "default": "", "doc": "New."})
    key = book.learn(json.dumps(older))
    data = codec.encode_fact(envelope, Barrier(writer_id="w"))
    fact = book.decode_fact(codec.MARKER + key + data[10:] + b"\x02x")
    assert fact == (envelope, Barrier(writer_id="w"))
