"""Models and Avro schemas say the same, field by field; values Avro would change are refused."""

from __future__ import annotations

import json
import re
import types
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from pydantic import AwareDatetime, BaseModel, ValidationError

from everlode.avro import compat, schemas
from everlode.events import base, states
from everlode.events.base import Envelope, LedgerEntry
from everlode.events.catalogue import (
    COMMANDS,
    EVENTS,
    FACT_COMPONENTS,
    REPLIES,
    SIGNALS,
    SNAPSHOTS,
    STATES,
)
from everlode.events.rewards import RewardCalculated
from everlode.events.schemas import SchemaPublished
from everlode.events.snapshots import AnsweredFact, HandedIn, ReadPosition
from everlode.events.tasks import TaskProgressed, TaskSubmitted

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
SHARED: tuple[str, ...] = (
    "Envelope",
    "CommandHeader",
    "LedgerEntry",
    "Position",
    "Evidence",
    "FactRef",
)
SHARED += ("ScopeEpoch", "CommandAnswered")
NESTED_STATES = ("Performance", "Vote", "Judgement")
MODELS: dict[str, Any] = {
    **{name: kind.model for name, kind in EVENTS.items()},
    **COMMANDS,
    **{name: getattr(base, name) for name in SHARED},
}
TUPLES: dict[str, Any] = {
    **{cls.__name__: cls for cls in STATES.values()},
    **{name: getattr(states, name) for name in NESTED_STATES},
    **SNAPSHOTS,
    **{cls.__name__: cls for cls in (AnsweredFact, HandedIn, ReadPosition)},
}
SCALARS = {int: "long", bool: "boolean", float: "double", str: "string", bytes: "bytes"}
TIME = {"type": "long", "logicalType": "timestamp-millis"}


def avro_type(annotation: Any) -> Any:
    """The Avro type that a Python annotation stands for."""
    origin, args = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return avro_type(annotation.__origin__)
    if origin is Literal:
        return "string"
    if origin in (Union, types.UnionType):
        (inner,) = [a for a in args if a is not type(None)]
        return ["null", avro_type(inner)]
    if origin is tuple:
        assert args[1] is Ellipsis
        return {"type": "array", "items": avro_type(args[0])}
    if origin is dict:
        return {"type": "map", "values": avro_type(args[1])}
    if annotation in (datetime, AwareDatetime):
        return TIME
    if annotation in SCALARS:
        return SCALARS[annotation]
    return f"everlode.events.{annotation.__name__}"


@pytest.mark.parametrize("name", sorted(MODELS))
def test_model_and_schema_agree_field_by_field(name: str) -> None:
    fields = schemas.source(name)["fields"]
    model: type[BaseModel] = MODELS[name]
    if name in EVENTS:
        assert (fields[0]["name"], fields[0]["type"]) == ("envelope", "everlode.events.Envelope")
    if name in COMMANDS:
        assert fields[0]["name"] == "header"
        assert fields[0]["type"] == "everlode.events.CommandHeader"
    fields = fields[1:] if name in EVENTS or name in COMMANDS else fields
    assert [f["name"] for f in fields] == list(model.model_fields)
    for field in fields:
        info = model.model_fields[field["name"]]
        assert field["type"] == avro_type(info.annotation), field["name"]
        nullable = isinstance(field["type"], list)
        default = field.get("default", "none")
        assert default in ((None,) if nullable else ("none", [], "", 0)), (
            f"{field['name']}: {default}"
        )
        assert (default == "none") == info.is_required(), field["name"]
        if default != "none":
            assert info.default == (() if default == [] else default), field["name"]


@pytest.mark.parametrize("name", sorted(TUPLES))
def test_state_and_schema_agree_field_by_field(name: str) -> None:
    fields, hints = schemas.source(name)["fields"], get_type_hints(TUPLES[name])
    assert [f["name"] for f in fields] == list(hints)
    for field in fields:
        assert field["type"] == avro_type(hints[field["name"]]), field["name"]
        nullable, default = isinstance(field["type"], list), field.get("default", "none")
        assert default in ((None,) if nullable else ("none", [], 0)), field["name"]


@pytest.mark.parametrize("component", sorted(STATES))
def test_state_begins_with_the_event_that_made_it(component: str) -> None:
    head = ("key", "epoch", "version", "stamp", "fold_version", "origin", "partition", "seq")
    assert STATES[component]._fields[:8] == head


@pytest.mark.parametrize("name", schemas.names())
def test_schema_is_documented_and_named(name: str) -> None:
    schema = schemas.source(name)
    assert schema["name"] == name
    assert schema["namespace"] == "everlode.events"
    assert schema["doc"].endswith(".")
    for field in schema["fields"]:
        assert field["doc"].endswith("."), field["name"]


@pytest.mark.parametrize("name", schemas.names())
def test_amounts_shares_and_times_name_their_unit(name: str) -> None:
    units = {"_micro": "millionths", "_ppm": "millionths", "_ms": "milliseconds"}
    for field in schemas.source(name)["fields"]:
        for suffix, unit in units.items():
            if field["name"].endswith(suffix):
                assert unit in field["doc"], field["name"]


def test_every_schema_belongs_to_a_model_and_fingerprints_are_unique() -> None:
    assert set(schemas.names()) == {*MODELS, *TUPLES}
    prints = {schemas.fingerprint(name) for name in schemas.names()}
    assert len(prints) == len(schemas.names())


def folders() -> dict[str, str]:
    """Where each schema must lie, by the catalogue; a shared record where its only users do."""
    found = {name: kind.topic.replace("*", "shared") for name, kind in EVENTS.items()}
    found |= dict.fromkeys(COMMANDS, "commands") | dict.fromkeys(REPLIES, "replies")
    found |= {cls.__name__: "states" for cls in STATES.values()}
    found |= dict.fromkeys(SNAPSHOTS, "snapshots")
    users: dict[str, set[str]] = {}
    for name, home in found.items():
        for used in re.findall(r"'everlode\.events\.(\w+)'", str(schemas.source(name))):
            users.setdefault(used, set()).add(home)
    return found | {n: min(h) if len(h) == 1 else "shared" for n, h in users.items()}


def test_schema_lies_in_the_folder_that_the_catalogue_says() -> None:
    assert {name: schemas.folder(name) for name in schemas.names()} == folders()
    written = list(Path(str(files("everlode.events"))).glob("avsc/**/*.avsc"))
    assert len(written) == len(schemas.names()), "one name lies in two folders"


def test_past_schema_is_in_the_book_of_its_folder() -> None:
    lines = [
        (json.loads(line)["type"], book.stem)
        for book in compat.PAST.iterdir()
        for line in book.read_text().splitlines()
    ]
    assert [(name, book) for name, book in lines if schemas.folder(name) != book] == []


def test_every_event_has_a_topic_that_exists() -> None:
    topics = {*FACT_COMPONENTS, *SIGNALS, "control", "*"}
    assert {kind.topic for kind in EVENTS.values()} == topics
    assert {command.component for command in COMMANDS.values()} == set(FACT_COMPONENTS)


def envelope(**changes: Any) -> Envelope:
    fields: dict[str, Any] = {
        "event_id": "e",
        "aggregate_id": "a",
        "version": 1,
        "origin": "eu.1",
        "scope": "task-manager/eu",
        "epoch": 1,
        "seq": 1,
        "stamp": 1,
        "occurred_at": NOW,
        "correlation_id": "c",
    }
    return Envelope(**{**fields, **changes})


PROGRESS: dict[str, Any] = {"attempt": 1, "miner_id": "m", "progress_ppm": 5, "lease_until": NOW}


@pytest.mark.parametrize(
    "change",
    [
        {"progress_ppm": 1.7},
        {"progress_ppm": 1.0},
        {"progress_ppm": True},
        {"progress_ppm": "5"},
        {"progress_ppm": 1_000_001},
        {"progress_ppm": -1},
        {"attempt": 2**63},
        {"attempt": -1},
        {"miner_id": ""},
        {"miner_id": "m" * 321},
        {"miner_id": 5},
        {"miner_id": b"m"},
        {"miner_id": None},
        {"miner_id": "\ud800"},
        {"checkpoint_uri": "u" * 4097},
        {"lease_until": datetime(2026, 1, 1)},
        {"lease_until": "2026-01-01T00:00:00Z"},
        {"lease_until": 1_700_000_000},
        {"lease_until": NOW.replace(microsecond=1)},
        {"unknown": 1},
    ],
    ids=str,
)
def test_event_with_a_value_that_avro_would_change_is_refused(change: dict[str, Any]) -> None:
    assert TaskProgressed(**PROGRESS)
    with pytest.raises(ValidationError):
        TaskProgressed(**{**PROGRESS, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1.7},
        {"version": True},
        {"seq": -1},
        {"stamp": 2**63},
        {"occurred_at": datetime(2026, 1, 1)},
        {"event_id": ""},
        {"aggregate_id": ""},
        {"unknown": 1},
        {"source_position": -1},
    ],
    ids=str,
)
def test_envelope_with_a_wrong_value_is_refused(change: dict[str, Any]) -> None:
    assert envelope()
    with pytest.raises(ValidationError):
        envelope(**change)


def float_fields() -> list[tuple[str, str]]:
    return [
        (name, field["name"])
        for name in sorted(MODELS)
        for field in schemas.source(name)["fields"]
        if field["type"] in ("double", ["null", "double"])
    ]


@pytest.mark.parametrize(("name", "field"), float_fields())
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_float_that_is_no_number_is_refused(name: str, field: str, value: float) -> None:
    with pytest.raises(ValidationError) as caught:
        MODELS[name](**{field: value})
    wrong = {e["type"] for e in caught.value.errors() if e["loc"] == (field,)}
    assert wrong == {"finite_number"}


def long_fields() -> list[tuple[str, str]]:
    return [
        (name, field["name"])
        for name in sorted(MODELS)
        for field in schemas.source(name)["fields"]
        if field["type"] in ("long", ["null", "long"])
    ]


@pytest.mark.parametrize("value", [1.7, 1.0, True, "1"])
def test_every_whole_number_refuses_what_avro_would_round(value: object) -> None:
    for name, field in long_fields():
        with pytest.raises(ValidationError) as caught:
            MODELS[name](**{field: value})
        assert any(e["loc"] == (field,) for e in caught.value.errors()), (name, field)


def test_every_model_is_frozen_and_closed() -> None:
    for name, model in MODELS.items():
        config = model.model_config
        assert (config["frozen"], config["strict"], config["extra"]) == (True, True, "forbid"), name


def test_sha256_is_lower_case_hex() -> None:
    fields: dict[str, Any] = {
        "client_id": "c",
        "task_type": "training",
        "payload_uri": "u",
        "payload_sha256": "a" * 64,
        "deadline_at": NOW,
        **dict.fromkeys(
            (
                "payload_bytes",
                "cpu_milli",
                "memory_mib",
                "gpus",
                "gpu_milli",
                "base_reward_micro",
                "max_attempts",
            ),
            1,
        ),
    }
    assert TaskSubmitted(**fields)
    for wrong in ("A" * 64, "a" * 63, "a" * 64 + "\n", "g" * 64):
        with pytest.raises(ValidationError):
            TaskSubmitted(**{**fields, "payload_sha256": wrong})


def test_lists_are_kept_as_tuples_and_bounded() -> None:
    entry = LedgerEntry(account="treasury", amount_micro=-1)
    fields = {
        "task_id": "t",
        "miner_id": "m",
        "validation_id": "v",
        **dict.fromkeys(("base_micro", "score_ppm", "amount_micro", "formula"), 1),
    }
    made = RewardCalculated(**fields, entries=[entry])  # type: ignore[arg-type]
    assert made.entries == (entry,)
    with pytest.raises(ValidationError):
        RewardCalculated(**fields, entries=(entry,) * 10_001)  # type: ignore[arg-type]


def test_document_is_bounded() -> None:
    with pytest.raises(ValidationError):
        SchemaPublished(fingerprint="", schema_name="", document="x" * 262_145)
