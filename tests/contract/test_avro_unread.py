"""A command that cannot be read: what is wrong is named, and who sent it is found all the same."""

from __future__ import annotations

import base64
import io
import json
from datetime import UTC, datetime
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlode.avro import schemas
from everlode.avro.cloudevents import command_headers
from everlode.avro.codec import MARKER, MAX_COMMAND_BYTES, Codec, encode_request
from everlode.avro.unread import Addressee, addressee
from everlode.errors import ContractError, Refusal
from everlode.events import commands as c
from everlode.events import door
from everlode.events.base import CommandHeader
from everlode.events.catalogue import COMMANDS
from tests.support.facts.hostile import encoded, lawful
from tests.support.facts.state_commands import submit

NOW = datetime(2026, 6, 1, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
HEADER = CommandHeader(
    command_id="c-1", aggregate_id="t-1", issued_by="client-1", reply_to="r-1", issued_at=NOW,
    correlation_id="s-1",
)  # fmt: skip
SUBMIT: c.SubmitTask = submit()
GOOD = encode_request(HEADER, SUBMIT)
TO = Addressee("c-1", "t-1", "r-1", "SubmitTask")
BOOK = Codec()
CASES = st.sampled_from([{"id": 1}, {"id": "c", "subject": None}, {"data": []}, {"header": {}}])


def plain(schema: Any) -> Any:
    if isinstance(schema, list):
        return [plain(part) for part in schema]
    if isinstance(schema, dict):
        return {name: plain(part) for name, part in schema.items() if name != "logicalType"}
    return schema


def written(changes: dict[str, Any], name: str = "SubmitTask") -> bytes:
    """A command as another program might write it: Avro's types are kept, nothing else is."""
    header = {**HEADER.__dict__, "issued_at": NOW_MS}
    body = {**SUBMIT.__dict__, "deadline_at": NOW_MS}
    for field, value in changes.items():
        (header if field in header else body)[field] = value
    out = io.BytesIO()
    fastavro.schemaless_writer(out, plain(schemas.raw(name)), {"header": header, **body})
    return MARKER + schemas.fingerprint(name) + out.getvalue()


def found(
    value: bytes | None, key: bytes | None = b"t-1", headers: list[tuple[str, bytes]] | None = None
) -> Addressee | None:
    name = BOOK.type_name(value)
    return addressee(name if name in COMMANDS else None, key, value, headers or [])


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"payload_sha256": "AB" * 32}, "payload_sha256 does not fit", "in lower case"),
        ({"base_reward_micro": -5}, "base_reward_micro is -5", "at least 0"),
        ({"deadline_at": NOW_MS * 1000}, f"deadline_at is {NOW_MS * 1000}", "milliseconds since"),
        ({"issued_at": NOW_MS * 1000}, f"issued_at is {NOW_MS * 1000}", "milliseconds since"),
        ({"client_id": ""}, "client_id does not fit", "at least 1 characters"),
        ({"command_id": ""}, "command_id does not fit", "at least 1 characters"),
        ({"task_type": "x" * 5000}, "task_type does not fit", "at most 4096 characters"),
    ],
)
def test_field_that_does_not_fit_is_named_with_what_was_expected(
    changes: dict[str, Any], message: str, hint: str
) -> None:
    data = written(changes)
    with pytest.raises(ContractError) as caught:
        BOOK.decode_request(data)
    assert (caught.value.code, caught.value.message) == ("bad_field", message)
    assert hint in caught.value.hint
    assert found(data) == TO._replace(command_id=changes.get("command_id", "c-1"))


def refusal(name: str, head: dict[str, Any], body: dict[str, Any]) -> str:
    """Why a command is refused as another program writes it; fails when it is let in."""

    def let_in() -> None:
        for record in BOOK.decode_request(encoded(name, {"header": head, **body})):
            door.check(record, NOW)

    with pytest.raises((ContractError, Refusal)) as caught:
        let_in()
    assert caught.value.code == "bad_field"
    return caught.value.message


@pytest.mark.parametrize("name", sorted(COMMANDS))
@settings(max_examples=2)
@given(data=st.data())
def test_every_time_in_another_unit_and_every_negative_number_is_refused_by_name(
    name: str, data: st.DataObject
) -> None:
    model = COMMANDS[name]
    body = {n: data.draw(lawful(n, f.annotation)) for n, f in model.model_fields.items()}
    head: dict[str, Any] = {**HEADER.__dict__, "issued_at": NOW_MS}
    fields = {f["name"]: json.dumps(f["type"]) for f in schemas.raw(name)["fields"][1:]}
    for wrong in (NOW_MS // 1000, NOW_MS * 1000):
        assert refusal(name, {**head, "issued_at": wrong}, body).startswith("issued_at is ")
        for field in [n for n, kind in fields.items() if "timestamp-millis" in kind]:
            assert refusal(name, head, {**body, field: wrong}).startswith(f"{field} is ")
    for field in [n for n, kind in fields.items() if kind in ('"long"', '["null", "long"]')]:
        assert refusal(name, head, {**body, field: -1}) == f"{field} is -1"


def test_word_that_is_not_on_a_closed_list_is_answered_with_the_list() -> None:
    vote = c.CastVote(voter_id="v", voter_kind="expert", accept=True, score_ppm=1)
    data = encode_request(HEADER, vote.model_copy(update={"voter_kind": "oracle"}))
    with pytest.raises(ContractError) as caught:
        BOOK.decode_request(data)
    assert caught.value.message == "voter_kind does not fit"
    assert "'automatic', 'peer-review' or 'expert'" in caught.value.hint


def test_body_that_ends_early_names_the_field_and_is_answered() -> None:
    with pytest.raises(ContractError, match="planted_sha256 cannot be read") as caught:
        BOOK.decode_request(GOOD[:-1])
    assert caught.value.code == "broken"
    assert found(GOOD[:-1]) == TO
    with pytest.raises(ContractError, match="after its end"):
        BOOK.decode_request(GOOD + b"\0")
    assert found(GOOD + b"\0") == TO


def test_command_cut_anywhere_behind_its_reply_to_is_answered() -> None:
    begins = GOOD.index(b"r-1") + 3
    for length in range(10, len(GOOD)):
        assert found(GOOD[:length]) == (TO if length >= begins else None)


STRUCTURED = {
    "specversion": "1.0", "id": "c-1", "type": "everlode.SubmitTask", "source": "/client-1",
    "subject": "t-1",
}  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        MARKER + GOOD[9:1:-1] + GOOD[10:],  # the other byte order
        MARKER + bytes(8) + GOOD[10:],
        b"\0\0\0\0\7" + GOOD[10:],  # as with a schema registry
        GOOD[10:],
        GOOD + b"\0" * MAX_COMMAND_BYTES,
        json.dumps({"header": json.loads(HEADER.model_dump_json())}).encode(),
        json.dumps({**STRUCTURED, "data": {"header": {**HEADER.model_dump(mode="json")}}}).encode(),
        json.dumps({**STRUCTURED, "data_base64": base64.b64encode(GOOD).decode()}).encode(),
        json.dumps({**STRUCTURED, "replyto": "r-1"}).encode(),
    ],
    ids=["swapped", "unknown", "registry", "bare", "too-large", "json", "ce", "ce-avro", "ce-bare"],
)
def test_command_in_another_framing_is_refused_and_answered(value: bytes) -> None:
    assert found(value) is not None
    assert found(value)[:3] == TO[:3]  # type: ignore[index]


def test_command_without_a_value_is_answered_by_its_cloudevents_headers() -> None:
    assert found(None, None, command_headers(HEADER, "SubmitTask")) == TO
    assert found(b"\xff" * 50, None, command_headers(HEADER, "SubmitTask")) == TO


def test_nobody_is_answered_by_guesswork() -> None:
    swapped = MARKER + bytes(8) + GOOD[10:]
    assert found(swapped, b"another") is None  # an unknown fingerprint, and not this record's id
    assert found(GOOD, b"another") == TO  # a command of ours, whatever the key
    assert found(encode_request(HEADER.model_copy(update={"reply_to": ""}), SUBMIT)) is None
    long = HEADER.model_copy(update={"command_id": "x" * 5000})
    assert found(encode_request(long, SUBMIT)) is None


@given(st.binary(max_size=200), st.sampled_from([*sorted(COMMANDS), None]), CASES)
def test_addressee_of_anything_is_one_or_none(
    data: bytes, name: str | None, document: dict[str, Any]
) -> None:
    addressee(name, b"", data, [("ce_id", b"\xff"), ("x", None)])  # type: ignore[list-item]
    addressee(name, None, b"{" + data, [])
    addressee(name, None, json.dumps(document).encode(), [])
    addressee(name, None, b"{" * 100_000, [])
