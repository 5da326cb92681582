"""CloudEvents' own SDKs take every record of ours, whatever its names hold: npm's and Python's."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event
from cloudevents.core.formats.json import JSONFormat

from everlode.api.feed import item_of
from everlode.avro.cloudevents import Headers, command_headers, event_headers
from everlode.avro.codec import encode_fact
from everlode.avro.signals import Head, Now, SignalMaker
from everlode.events.base import CommandHeader, Envelope, Event, Fact
from everlode.events.recovery import HealingSucceeded
from tests.contract.test_avro_golden import EVENTS
from tests.support.processes.languages import node

AT = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
AWKWARD = (
    "mäx 1", "/mäx 1", "//x:y", "a/b?c#d", "..", "%2e", "%", "a[b]", 'q"<>\\^`{|}', "名前", "🜨",
    "a:b@c", " ", "x" * 255,
)  # fmt: skip
"""Names that are lawful, and no part of a URI as they are."""


def signal(scope: str) -> tuple[Fact, Headers, bytes]:
    event = HealingSucceeded(process="eu/kafka", process_kind="kafka", attempts=1, lost_ms=5)
    made = SignalMaker("eu.1").make(Head(scope, f"id of {scope}", scope), event, Now(1, AT))
    return Fact(made.envelope, event), made.headers, made.value


def fact(envelope: Envelope, event: Event) -> tuple[Fact, Headers, bytes]:
    headers = event_headers(envelope, type(event).__name__)
    return Fact(envelope, event), headers, encode_fact(envelope, event)


def command(issued_by: str) -> Headers:
    header = CommandHeader(
        command_id=f"c {issued_by}", aggregate_id="eu/täsk 1", issued_by=issued_by, reply_to="",
        issued_at=AT, correlation_id="c",
    )  # fmt: skip
    return command_headers(header, "CancelTask")


@pytest.fixture(scope="module")
def records() -> list[tuple[Headers, bytes, str | None]]:
    """Headers and value of each record, and the event that a listener gets of it."""
    facts = [fact(*EVENTS[name]) for name in sorted(EVENTS)]
    envelope, event = EVENTS["task"]
    for name in AWKWARD:
        named = {"scope": f"task-manager/{name}", "aggregate_id": f"eu/{name}"}
        facts += [fact(envelope.model_copy(update=named), event), signal(name)]
    found: list[tuple[Headers, bytes, str | None]] = [
        (headers, value, item_of(made, 0, ("eu.1.tasks", 0, 7), ("", "")).text)
        for made, headers, value in facts
    ]
    return found + [(command(name), b"\xc3\x01", None) for name in AWKWARD]


def wanted(headers: Headers) -> dict[str, str]:
    texts = {name: value.decode() for name, value in headers}
    return {name: texts[f"ce_{name}"] for name in ("id", "type", "source", "subject", "time")}


def instant(shown: dict[str, Any]) -> dict[str, Any]:
    """With its time as a time: SDKs write the same one in ways of their own."""
    return shown | {"time": datetime.fromisoformat(str(shown["time"]))}


def test_npm_sdk_takes_records_and_streamed_events(
    records: list[tuple[Headers, bytes, str | None]], tmp_path: Path
) -> None:
    given: dict[str, list[Any]] = {
        "binary": [
            {"headers": {n: v.decode() for n, v in headers}, "value": value.hex()}
            for headers, value, _ in records
        ],
        "structured": [text for _, _, text in records if text is not None],
    }
    # and one as builds before wrote it, which the SDK must refuse, or it looks at nothing
    old = given["binary"][0] | {"headers": given["binary"][0]["headers"] | {"ce_source": "/mäx 1"}}
    given["binary"].append(old)
    (tmp_path / "input.json").write_text(json.dumps(given))
    made = json.loads(node(tmp_path, "cloudevents"))
    assert "error" in made["binary"].pop()
    expected = [instant(wanted(headers)) for headers, _, _ in records]
    assert [instant(shown) for shown in made["binary"]] == expected
    assert [instant(shown) for shown in made["structured"]] == expected[: len(made["structured"])]
    assert len(made["structured"]) > 2 * len(AWKWARD)


def test_python_sdk_takes_records_and_streamed_events(
    records: list[tuple[Headers, bytes, str | None]],
) -> None:
    for headers, value, text in records:
        read = [from_binary_event(KafkaMessage(headers=dict(headers), key=None, value=value))]
        if text is not None:
            read.append(JSONFormat().read(None, text))
        for event in read:
            shown = {
                "id": event.get_id(), "type": event.get_type(), "source": event.get_source(),
                "subject": event.get_subject(), "time": event.get_time(),
            }  # fmt: skip
            assert instant(shown) == instant(wanted(headers))


def test_source_is_ascii_and_says_who_it_is_from(
    records: list[tuple[Headers, bytes, str | None]],
) -> None:
    sources = [wanted(headers)["source"] for headers, _, _ in records]
    assert all(source.isascii() and not source.startswith("//") for source in sources)
    assert dict(command("/mäx 1"))["ce_source"] == b"/%2Fm%C3%A4x%201"
    assert len(set(sources)) > 2 * len(AWKWARD)
