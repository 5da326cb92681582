"""Records of other builds: what Avro cannot translate is translated by one rule a type."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any, get_args

import fastavro
import pytest

from everlode.avro import schemas
from everlode.avro.codec import MARKER, Codec, encode_fact
from everlode.avro.compat import load_past
from everlode.errors import ContractError
from everlode.events.base import Envelope
from everlode.events.recovery import OperationStep
from everlode.events.types import StepName

BEFORE_THE_LIST = "550c3ba7d90677b8"
ENVELOPE = Envelope(
    event_id="e", aggregate_id="backup-1", version=0, origin="eu.1", scope="", epoch=0, seq=1,
    stamp=1, occurred_at=datetime(2026, 1, 1, tzinfo=UTC), correlation_id="backup-1",
)  # fmt: skip


def made(schema: dict[str, Any], **fields: Any) -> bytes:
    """A step's record as a build with `schema` wrote it."""
    value = {
        "envelope": ENVELOPE.model_dump(), "kind": "backup", "number": 1, "outcome": "done",
        "detail": "d", "duration_ms": 5, **fields,
    }  # fmt: skip
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema, named_schemas={}), value)
    return MARKER + schemas.fingerprint_of(schema) + out.getvalue()


def read(data: bytes, codec: Codec | None = None) -> OperationStep:
    fact = (codec or Codec()).decode_fact(data)
    assert isinstance(fact.data, OperationStep)
    return fact.data


def old() -> dict[str, Any]:
    found: dict[str, Any] = load_past()["OperationStep"][BEFORE_THE_LIST]
    return found


@pytest.mark.parametrize("text", ["tasks/0", "manifest of 20260301T120000123-a1b2c3", ""])
def test_step_of_a_build_before_the_list_is_read_as_other_with_its_text(text: str) -> None:
    found = read(made(old(), step=text))
    assert (found.step, found.subject, found.detail) == ("other", text, "d")


@pytest.mark.parametrize("name", get_args(StepName))
def test_step_of_a_build_before_the_list_keeps_a_name_that_is_in_it(name: str) -> None:
    found = read(made(old(), step=name))
    assert (found.step, found.subject) == (name, "")


def test_step_of_a_newer_build_is_read_as_other_with_its_name_and_subject() -> None:
    newer = json.loads(json.dumps(schemas.raw("OperationStep")))
    newer["fields"].append({"name": "attempt", "type": "long", "default": 1, "doc": "Attempt."})
    codec = Codec()
    codec.learn(json.dumps(newer))
    found = read(made(newer, step="compact", subject="state.g1.tasks", attempt=2), codec)
    assert (found.step, found.subject) == ("other", "compact state.g1.tasks")
    known = read(made(newer, step="seal", subject="tasks/0", attempt=2), codec)
    assert (known.step, known.subject) == ("seal", "tasks/0")


def test_step_outside_the_list_of_todays_schema_is_refused() -> None:
    with pytest.raises(ContractError, match="step"):
        read(made(schemas.raw("OperationStep"), step="tasks/0", subject=""))


def test_step_of_today_is_read_by_a_build_before_the_list() -> None:
    step = OperationStep(
        kind="recovery", number=2, step="fetch", subject="eu/x/tasks-0.avro.enc", outcome="done",
        detail="7 records", duration_ms=5,
    )  # fmt: skip
    body = io.BytesIO(encode_fact(ENVELOPE, step)[10:])
    value = fastavro.schemaless_reader(
        body,
        fastavro.parse_schema(schemas.raw("OperationStep"), named_schemas={}),
        fastavro.parse_schema(old(), named_schemas={}),
    )
    assert isinstance(value, dict)
    assert (value["step"], value["detail"], "subject" in value) == ("fetch", "7 records", False)


def test_schema_lists_the_steps_that_the_model_knows() -> None:
    (field,) = (f for f in schemas.raw("OperationStep")["fields"] if f["name"] == "step")
    listed = field["doc"].replace(":", " ").replace(",", " ").replace(".", " ").split()
    assert set(get_args(StepName)) <= set(listed)
