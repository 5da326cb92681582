"""docs/asyncapi.json is valid against the JSON schema that AsyncAPI publishes of itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest

from tests.support.processes.languages import npm
from tests.unit.test_docs_asyncapi import DOCUMENT

SCHEMA = "node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json"


@pytest.fixture(scope="module")
def validator() -> Any:
    return jsonschema_rs.validator_for(json.loads((npm("asyncapi") / SCHEMA).read_text()))


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DOCUMENT.read_text())
    return found


def test_document_is_valid(validator: Any) -> None:
    assert [
        f"{e.instance_path}: {e.message[:500]}" for e in validator.iter_errors(document())
    ] == []


def _of_task(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["messages"]["TaskSubmitted"]
    return found


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.pop("info"),
        lambda d: d.update(asyncapi="2.6.0"),
        lambda d: d["operations"]["send_control"].pop("action"),
        lambda d: d["channels"]["control"]["bindings"]["kafka"].update(bindingVersion="9"),
        lambda d: d["channels"]["origin_tasks"]["parameters"].update(origin={"schema": {}}),
        lambda d: _of_task(d).update(unknown=1),
        lambda d: _of_task(d)["payload"]["schema"].update(type="no such type"),
    ],
)
def test_damaged_document_is_not(validator: Any, damage: Callable[[dict[str, Any]], Any]) -> None:
    damaged = document()
    damage(damaged)
    assert not validator.is_valid(damaged)
