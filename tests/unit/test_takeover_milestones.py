"""What members tell of a takeover on their recovery streams: each step once, when read back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from everlode.avro.codec import Codec, encode_fact
from everlode.events.base import Envelope, Event, Fact
from everlode.events.recovery import OperationStarted, OperationStep
from everlode.failover.milestones import Milestone, milestones
from everlode.failover.operations import OperationLog
from everlode.views.operations import Operations
from tests.support.facts.state_commands import fact_of
from tests.unit.test_control_fences import SCOPE
from tests.unit.test_takeover_plan import Planned


def names(log: Planned, region: str) -> list[str]:
    return [step.what.partition("/")[0] for step in milestones(log.state, region)]


def taken() -> Planned:
    log = Planned()
    log.gathered()
    log.assign("eu", SCOPE, "eu-tm-1")
    return log


def test_steps_are_told_as_they_are_read_back_by_members_alone() -> None:
    log = Planned()
    assert names(log, "eu") == []
    log.fence()
    assert names(log, "eu") == names(log, "ap") == ["started", "fence"]
    assert names(log, "us") == []
    log.report("eu", 3)
    assert names(log, "eu")[2:] == ["report"]
    log.report("ap", 2)
    assert names(log, "eu")[2:] == ["report", "accept", "level"]
    assert names(log, "ap")[2:] == ["report", "accept"]
    log.assign("eu", SCOPE, "eu-tm-1")
    assert names(log, "eu")[-2:] == ["take", "taken"]
    assert names(log, "ap")[-1] == "taken"
    assert "take" not in names(log, "ap"), "it has taken nothing"


def test_whoever_leads_tells_the_same_under_the_same_ids_and_once() -> None:
    sent: list[tuple[str, Fact]] = []

    def signal(data: Event, *, event_id: str, key: str, **_: object) -> None:
        sent.append((event_id, fact_of(data, key, len(sent) + 1, event_id=event_id)))

    def publish(known: list[Fact]) -> list[str]:
        made = OperationLog(cast("Any", SimpleNamespace(signal=signal)), {})
        for fact in known:
            made.observe(fact)
        before = len(sent)
        for _ in range(2):
            for step in milestones(taken().state, "eu"):  # read anew
                made.publish(step)
        return [event_id for event_id, _ in sent[before:]]

    first = publish([])
    assert len(set(first)) == len(first) == len(names(taken(), "eu"))
    assert publish([fact for _, fact in sent]) == [], "a successor has read them"
    assert publish([]) == first, "known as the same where it has not"


def test_operation_is_over_when_all_scopes_have_an_owner_and_can_be_read_back() -> None:
    operations, codec = Operations(), Codec()

    def read(step: Milestone, n: int) -> Any:
        fact = fact_of(step.data, step.operation, n, event_id=f"{step.what}")
        envelope = Envelope.model_validate(fact.envelope.model_dump())
        return operations.observe(codec.decode_fact(encode_fact(envelope, step.data)))

    steps = list(milestones(taken().state, "eu"))
    assert isinstance(steps[0].data, OperationStarted)
    for n, step in enumerate(steps[:-1], 1):
        found = read(step, n)
    assert (found.kind, found.subject, found.ended_at) == ("takeover", "us", None)
    assert isinstance(steps[-1].data, OperationStep)
    found = read(steps[-1], len(steps))
    assert found.ended_at is not None
    assert found.success
    assert [s["subject"] for s in found.steps] == [
        "fence", "report", "accept", "level", "take", "taken",
    ]  # fmt: skip
    assert operations.ended["takeover", "us", True] == 1
