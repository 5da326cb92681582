"""The past reads the present and the present the past; planted breaks are found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from everlode.avro import compat, schemas
from everlode.errors import ConfigError

Change = Callable[[dict[str, Any]], None]


def changed(name: str, change: Change) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(json.dumps(schemas.raw(name)))
    change(schema)
    return schema


def field(schema: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(f for f in schema["fields"] if f["name"] == name)
    return found


def test_todays_schemas_are_compatible_with_all_of_the_past() -> None:
    assert compat.broken(compat.todays(), compat.load_past()) == []


def test_todays_schemas_are_all_recorded() -> None:
    missing = compat.unrecorded(compat.todays(), compat.load_past())
    assert missing == [], "run: python -m everlode.avro.compat record"


def test_past_is_not_empty() -> None:
    assert set(compat.load_past()) >= set(schemas.names())


def add(new: dict[str, Any]) -> Change:
    return lambda schema: schema["fields"].append(new)


def drop(name: str) -> Change:
    return lambda schema: schema["fields"].remove(field(schema, name))


def put(name: str, key: str, value: Any) -> Change:
    return lambda schema: field(schema, name).__setitem__(key, value)


def rename(name: str, to: str) -> Change:
    return put(name, "name", to)


def required(name: str) -> Change:
    def change(schema: dict[str, Any]) -> None:
        field(schema, name)["type"] = "string"
        del field(schema, name)["default"]

    return change


NULLABLE = {"name": "note", "type": ["null", "string"], "default": None, "doc": "A note."}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("TaskProgressed", add(NULLABLE)),
        ("TaskProgressed", add({"name": "n", "type": "long", "default": 0, "doc": "N."})),
        ("TaskProgressed", drop("checkpoint_uri")),
        ("TaskProgressed", lambda s: s["fields"].reverse()),
        ("TaskState", drop("reason")),
    ],
)
def test_compatible_change_is_taken(name: str, change: Change) -> None:
    assert compat.full_problems(changed(name, change), schemas.raw(name)) == []


LONG_TIME = {"type": "long", "logicalType": "timestamp-micros"}


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        (
            "TaskProgressed",
            add({"name": "n", "type": "long", "doc": "N."}),
            "new reads old: n: has no default and is not written",
        ),
        (
            "TaskProgressed",
            drop("miner_id"),
            "old reads new: miner_id: has no default and is not written",
        ),
        (
            "TaskProgressed",
            rename("miner_id", "worker_id"),
            "new reads old: worker_id: has no default and is not written",
        ),
        (
            "TaskProgressed",
            put("progress_ppm", "type", "double"),
            "new reads old: progress_ppm: long is read as double",
        ),
        (
            "TaskProgressed",
            put("progress_ppm", "type", "int"),
            "new reads old: progress_ppm: long is read as int",
        ),
        (
            "TaskProgressed",
            put("progress_ppm", "type", ["null", "long"]),
            "old reads new: progress_ppm: null is read as long",
        ),
        (
            "TaskProgressed",
            required("checkpoint_uri"),
            "new reads old: checkpoint_uri: null is read as string",
        ),
        (
            "TaskProgressed",
            put("checkpoint_uri", "type", ["null", "string", "long"]),
            "old reads new: checkpoint_uri: the branch long fits none of the reader's",
        ),
        (
            "RewardCalculated",
            put("entries", "type", {"type": "array", "items": "string"}),
            "new reads old: entries[]: record is read as string",
        ),
        (
            "TaskProgressed",
            put("lease_until", "type", LONG_TIME),
            "changed in place: the fingerprint is the same, the text is not",
        ),
        (
            "TaskProgressed",
            put("lease_until", "type", "long"),
            "changed in place: the fingerprint is the same, the text is not",
        ),
        (
            "TaskProgressed",
            put("checkpoint_uri", "default", "none"),
            "changed in place: the fingerprint is the same, the text is not",
        ),
        (
            "TaskProgressed",
            put("progress_ppm", "doc", "Progress in percent."),
            "changed in place: the fingerprint is the same, the text is not",
        ),
        (
            "TaskProgressed",
            lambda s: s.__setitem__("name", "TaskWentOn"),
            "new reads old: the schema: everlode.events.TaskProgressed is read as "
            "everlode.events.TaskWentOn",
        ),
        (
            "TaskProgressed",
            lambda s: drop("event_id")(field(s, "envelope")["type"]),
            "old reads new: envelope.event_id: has no default and is not written",
        ),
        (
            "MinerState",
            put("locks", "type", {"type": "map", "values": "string"}),
            "new reads old: locks[]: long is read as string",
        ),
    ],
)
def test_incompatible_change_is_refused_with_its_reason(
    name: str, change: Change, reason: str
) -> None:
    new = changed(name, change)
    assert reason in compat.full_problems(new, schemas.raw(name))
    past = {name: {schemas.fingerprint(name).hex(): schemas.raw(name)}}
    lines = compat.broken({name: new}, past)
    assert any(line.endswith(reason) for line in lines)


def test_logical_type_with_another_fingerprint_is_refused() -> None:
    """A changed time unit beside a lawful new field gets past the fingerprint, not past us."""

    def change(schema: dict[str, Any]) -> None:
        add(NULLABLE)(schema)
        put("lease_until", "type", LONG_TIME)(schema)

    found = compat.full_problems(changed("TaskProgressed", change), schemas.raw("TaskProgressed"))
    assert any("lease_until: logicalType" in text for text in found)


def test_transitive_break_against_an_older_schema_is_found() -> None:
    """Each neighbour fits; the ends do not: a field with another default each time."""
    middle = changed("TaskProgressed", drop("checkpoint_uri"))
    newest = changed("TaskProgressed", put("checkpoint_uri", "type", ["null", "long"]))
    assert compat.full_problems(newest, middle) == []
    assert compat.full_problems(middle, schemas.raw("TaskProgressed")) == []
    past = {"TaskProgressed": {"old": schemas.raw("TaskProgressed"), "middle": middle}}
    assert compat.broken({"TaskProgressed": newest}, past) != []


def test_removed_type_is_refused() -> None:
    current = {n: s for n, s in compat.todays().items() if n != "TaskProgressed"}
    assert compat.broken(current, compat.load_past()) == ["TaskProgressed: was removed"]


def test_record_is_idempotent_and_refuses_a_break(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compat.record(tmp_path) == list(schemas.names())
    assert compat.record(tmp_path) == []
    broken = {
        **compat.todays(),
        "TaskProgressed": changed("TaskProgressed", drop("miner_id")),
    }
    monkeypatch.setattr(compat, "todays", lambda: broken)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match="miner_id"):
        compat.record(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_edited_past_is_refused(tmp_path: Path) -> None:
    compat.record(tmp_path)
    path = tmp_path / "tasks.jsonl"
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if json.loads(line)["type"] == "TaskProgressed")

    def put_line(*instead: str) -> None:
        path.write_text("\n".join([*lines[:at], *instead, *lines[at + 1 :]]) + "\n")

    other = {**json.loads(lines[at]), "schema": changed("TaskProgressed", drop("miner_id"))}
    put_line(json.dumps(other))
    with pytest.raises(ConfigError, match="its content is"):
        compat.load_past(tmp_path)
    put_line("{")
    with pytest.raises(ConfigError, match="not an Avro schema"):
        compat.load_past(tmp_path)
    put_line()
    with pytest.raises(ConfigError, match="follows"):
        compat.load_past(tmp_path)
    put_line(lines[at], lines[at])
    with pytest.raises(ConfigError, match="follows"):
        compat.load_past(tmp_path)
    put_line(lines[at])
    assert set(compat.load_past(tmp_path)) == set(schemas.names())


def test_last_line_of_a_book_is_missed(tmp_path: Path) -> None:
    compat.record(tmp_path)
    path = tmp_path / "tasks.jsonl"
    *lines, last = path.read_text().splitlines()
    path.write_text("\n".join(lines) + "\n")
    gone = json.loads(last)["type"]
    assert compat.unrecorded(compat.todays(), compat.load_past(tmp_path)) == [gone]


def test_record_appends_what_is_new_at_the_end_of_its_book(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compat.record(tmp_path)
    path = tmp_path / "tasks.jsonl"
    before = path.read_text()
    new = {**compat.todays(), "TaskProgressed": changed("TaskProgressed", add(NULLABLE))}
    monkeypatch.setattr(compat, "todays", lambda: new)
    assert compat.record(tmp_path) == ["TaskProgressed"]
    assert path.read_text().startswith(before)
    assert len(compat.load_past(tmp_path)["TaskProgressed"]) == 2


def test_command_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compat.main(["check"]) == 0
    assert compat.main([]) == 2
    broken = {
        **compat.todays(),
        "TaskProgressed": changed("TaskProgressed", drop("miner_id")),
    }
    monkeypatch.setattr(compat, "todays", lambda: broken)
    assert compat.main(["check"]) == 1
    assert compat.main(["record"]) == 1
    assert "miner_id: has no default" in capsys.readouterr().out
