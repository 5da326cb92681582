"""`everlode miner reinstate`: what it asks, shows, and ends with."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Self

import pytest

from everlode.cli.main import run
from everlode.errors import Refusal
from everlode.events.base import CommandAnswered, FactRef
from everlode.events.commands import ReinstateMiner

WORDS = ["miner", "reinstate", "m-1", "--region", "eu", "--by", "ops-1", "--reason", "appeal"]
FACT = FactRef(
    event_id="e", event_type="MinerReinstated", topic="eu.1.miners", partition=1, offset=7, seq=3,
    version=9,
)  # fmt: skip


def answered(*facts: FactRef) -> CommandAnswered:
    return CommandAnswered(
        command_id="c", command_type="ReinstateMiner", aggregate_id="m-1", reply_to="r",
        region="eu", node_id="n", outcome="done" if facts else "repeated", code="", message="",
        hint="", facts=facts, level=1, answered_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A region that answers as it is told to; what it was asked."""
    seen = SimpleNamespace(answer=answered(FACT), refused=None, calls=[])

    class Client:
        def __init__(self, _: object, region: str, name: str, **__: Any) -> None:
            self.who = region, name

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def call(self, key: str, command: object) -> CommandAnswered:
            seen.calls.append((*self.who, key, command))
            if seen.refused is not None:
                raise seen.refused
            answer: CommandAnswered = seen.answer
            return answer

    monkeypatch.setattr("everlode.cli.miner.MiningClient", Client)
    monkeypatch.setattr("everlode.cli.miner.Endpoints", SimpleNamespace(load=lambda _: None))
    return seen


def test_operator_lifts_a_suspension_in_its_name_and_with_a_reason(
    asked: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(WORDS) == 0
    command = ReinstateMiner(reason="appeal", decided_by="ops-1")
    assert asked.calls == [("eu", "operator-ops-1", "m-1", command)]
    assert capsys.readouterr().out == "m-1: MinerReinstated eu.1.miners/1@7\n"
    assert run([*WORDS, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answered(FACT).model_dump(mode="json")


def test_miner_that_is_active_stays_so(
    asked: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    asked.answer = answered()
    assert run(WORDS) == 0
    assert capsys.readouterr().out == "m-1: was active, nothing changed\n"


def test_who_is_no_operator_is_refused_with_the_way_out(
    asked: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    asked.refused = Refusal("suspended", code="operator_needed", hint="name an operator")
    assert run([*WORDS, "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["hint"]) == ("operator_needed", "name an operator")
