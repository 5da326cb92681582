"""Texts of any length, also such as are no Unicode, and the bounded fields that we put them into.

What strangers send is quoted in answers, dead letters, verdicts, statuses and steps of operations.
Whatever it is, the record that quotes it can be made and written.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from everlode.avro.codec import Codec, encode_answer, encode_fact
from everlode.avro.unread import Addressee, addressee
from everlode.control.fold import NodeState
from everlode.errors import ContractError, Refusal
from everlode.events.base import CommandAnswered, Envelope, Event, Record
from everlode.events.catalogue import EVENTS
from everlode.events.nodes import NodeStatus
from everlode.events.types import LONGEST_REMARK, LONGEST_TEXT, fitting
from everlode.failover.decisions import Decisions
from everlode.failover.operations import Operation, OperationLog
from everlode.log.announcer import step_of
from everlode.primary.pending import HOME, Answer, Pending
from everlode.processes.policies import policies
from everlode.settings.environment import Settings
from everlode.telemetry.entries import StepEnded
from everlode.topics.place import Letter, letter
from tests.contract.test_avro_codec import bounds, models

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ENVELOPE = Envelope(
    event_id="e", aggregate_id="a", version=1, origin="eu.1", scope="s", epoch=1, seq=1, stamp=1,
    occurred_at=NOW, correlation_id="c",
)  # fmt: skip
ANY = st.text(st.characters(), max_size=60)
"""Lone surrogates too, as JSON has them."""
LONG = st.builds(lambda text, n: (text or "x") * n, ANY, st.sampled_from([1, 70, 500, 5000]))
CODEC = Codec()

FILLED = {
    "ClockSkew": {"component": "ours", "region": "ours"},
    "ConflictFound": {
        "kept_event_id": "id", "key": "id", "refused_event_id": "id", "topic": "ours",
    },
    "EventFenced": {"refused_event_id": "id", "topic": "ours"},
    "ForeignWrite": {
        "foreign_event_id": "id", "foreign_key": "cut", "scope_name": "ours", "topic": "ours",
    },
    "GapFound": {"key": "id", "topic": "ours"},
    "NodeDegraded": {"component": "beat", "rule": "ours"},
    "NodeFlapping": {"component": "beat"},
    "NodeLost": {"component": "beat", "rule": "ours"},
    "NodeRecovered": {"component": "beat"},
    "NodeSuspected": {"component": "beat", "endpoint": "beat", "rule": "ours"},
    "ReactionRefused": {
        "cause_event_id": "id", "code": "ours", "command_type": "ours", "component": "ours",
        "reason": "fitting", "refused_command_id": "id", "rule": "ours",
    },
    "WorkWaits": {"component": "ours", "oldest_id": "id", "waits_for": "ours", "work": "ours"},
    "NodeStatusChanged": {"node_id": "id", "reason": "fitting", "region": "ours"},
    "OperationStarted": {"region": "ours", "scope_name": "ours", "subject": "ours"},
    "OperationStep": {"detail": "fitting", "subject": "fitting"},
    "CommandAnswered": {
        "aggregate_id": "addressee", "code": "ours", "command_id": "addressee",
        "command_type": "addressee", "hint": "fitting", "message": "fitting", "node_id": "ours",
        "outcome": "ours", "region": "ours", "reply_to": "addressee",
    },
}  # fmt: skip
"""Record about what others did → its texts → what keeps each within its bound.

`ours`: a word, or a name from the topology; `id`, `beat`: copied from a field with the same bound,
of a record that was read; `cut`: cut where it is made; `fitting`, `addressee`: by these functions.
"""


def texts_of(model: type[BaseModel]) -> dict[str, int]:
    """Text fields of a model without a pattern → the most characters of each."""
    found = {}
    for name, field in model.model_fields.items():
        limits = bounds([field.annotation, *field.metadata])
        if field.annotation is str and "pattern" not in limits:
            found[name] = limits["max_length"]
    return found


@given(LONG, st.sampled_from([2, 255, LONGEST_REMARK, LONGEST_TEXT]))
@example("\ud800" * 5000, 255)
def test_fitting_text_is_unicode_within_its_bound_and_twice_is_once(text: str, most: int) -> None:
    found = fitting(text, most)
    assert len(found) <= most
    assert found.encode().decode() == found
    assert fitting(found, most) == found
    if len(text) <= most and text.encode("utf-8", "replace").decode() == text:
        assert found == text


@pytest.mark.parametrize("name", [*sorted(EVENTS), "CommandAnswered"])
@settings(max_examples=6)
@given(st.data(), LONG)
def test_every_bounded_text_of_every_schema_holds_what_is_fitting(
    name: str, data: st.DataObject, text: str
) -> None:
    model: type[Record] = EVENTS[name].model if name in EVENTS else CommandAnswered
    drawn = data.draw(models(model))
    assert isinstance(drawn, model)
    filled = {at: fitting(text, most) for at, most in texts_of(model).items()}
    made = model.model_validate({**drawn.__dict__, **filled})
    if isinstance(made, CommandAnswered):
        assert CODEC.decode_answer(encode_answer(made)) == made
    else:
        assert isinstance(made, Event)
        assert CODEC.decode_fact(encode_fact(ENVELOPE, made)).data == made


def test_every_text_of_a_record_about_others_has_what_keeps_it_within_its_bound() -> None:
    topics = {"health", "replies"}
    about = {n for n, kind in EVENTS.items() if kind.topic in topics}
    about |= FILLED.keys() & {"NodeStatusChanged", "OperationStarted", "OperationStep"}
    found = {n: sorted(texts_of(EVENTS[n].model)) for n in about if texts_of(EVENTS[n].model)}
    found["CommandAnswered"] = sorted(texts_of(CommandAnswered))
    assert found == {n: sorted(fields) for n, fields in FILLED.items()}


@settings(max_examples=25)
@given(LONG, LONG)
def test_refusal_of_any_text_is_answered_beside_the_others(message: str, hint: str) -> None:
    pending = Pending(cast("Any", SimpleNamespace(answers={})), "eu.1.tasks", "eu", "n")
    to = Addressee("c", "a", "r", "SubmitTask")
    answers = [Answer(to, "done"), Answer(to, "refused", Refusal(message, hint=hint))]
    pending.committed(answers)
    done, refused = pending.held(HOME, NOW)
    assert (done.outcome, refused.outcome) == ("done", "refused")
    assert CODEC.decode_answer(encode_answer(refused)) == refused


@settings(max_examples=25)
@given(LONG, LONG, LONG)
def test_whoever_is_found_can_be_answered(command: str, key: str, reply_to: str) -> None:
    """JSON holds texts that Avro and Kafka cannot."""
    header = {"command_id": command, "aggregate_id": key, "reply_to": reply_to}
    document = {"type": "everlode.SubmitTask", "data": {"header": header}}
    found = addressee(None, b"k", json.dumps(document).encode(), [])
    good = all(fitting(text, LONGEST_TEXT) == text for text in header.values())
    assert (found is not None) is (good and bool(reply_to))
    if found is not None:
        pending = Pending(cast("Any", SimpleNamespace(answers={})), "eu.1.tasks", "eu", "n")
        pending.committed([Answer(found, "refused", Refusal("x"))])
        (answer,) = pending.held(HOME, NOW)
        assert CODEC.decode_answer(encode_answer(answer)).reply_to == reply_to


@settings(max_examples=25)
@given(LONG)
def test_dead_letter_of_any_error_can_be_written(message: str) -> None:
    kept = letter("primary", ("t", 0, 1), Letter(b"k", b"v", []), ContractError(message))
    assert len(dict(kept.headers)["dlt-message"].decode()) <= LONGEST_REMARK


@settings(max_examples=25)
@given(LONG, LONG)
def test_step_of_any_operation_can_be_published(subject: str, detail: str) -> None:
    made = step_of(StepEnded("gate", subject, detail), "recovery", 1, 2)
    assert CODEC.decode_fact(encode_fact(ENVELOPE, made)).data == made


@settings(max_examples=25)
@given(LONG)
def test_status_and_step_of_a_failover_can_be_written_whatever_their_reason(text: str) -> None:
    written: list[Event] = []

    class Agent:
        identity = SimpleNamespace(node_id="co", region="eu")

        @property
        def log(self) -> Agent:
            return self

        def append(self, _key: str, data: Event, **_: Any) -> int:
            written.append(data)
            return 1

        def leads(self, _: str) -> int:
            return 1

        def signal(self, data: Event, **_: Any) -> None:
            written.append(data)

    agent: Any = Agent()
    node = NodeState("tm", "eu", "task-manager", "", "e", 0, "healthy", 1, 1)
    assert Decisions(agent).note(node, NodeStatus.LOST, text, 1)
    OperationLog(agent, policies(Settings(), 1)).step(Operation.of(node), "migrate", text)
    for made in written:
        assert CODEC.decode_fact(encode_fact(ENVELOPE, made)).data == made
    assert len(written) == 2
