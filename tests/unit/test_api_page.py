"""The page as HTML: every value is escaped; empty and error states are said."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import MappingProxyType

from everlode.api.feed import item_of
from everlode.api.overview import Seen, html, lines, regions_of
from everlode.control.fold import ControlState, NodeState, ScopeState
from everlode.errors import Unavailable
from everlode.events.base import Envelope, Event, Fact
from everlode.events.control import ScopeAssigned
from everlode.events.recovery import OperationStarted, OperationStep, RegistryRecoveryEnded
from everlode.views.operations import Operations

HOSTILE = '<script>alert("x")</script>'
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def fact(data: Event, event_id: str, operation: str = HOSTILE) -> Fact:
    envelope = Envelope(
        event_id=event_id, aggregate_id=operation, version=0, origin="eu.1", scope="", epoch=0,
        seq=1, stamp=2**62, occurred_at=AT, correlation_id="c",
    )  # fmt: skip
    return Fact(envelope, data)


STARTED = OperationStarted(
    kind="registry-failover", region="eu", subject=HOSTILE, scope_name="miner-registry/eu",
    scope_epoch=2, evidence=(),
)  # fmt: skip
STEP = OperationStep(
    kind="registry-failover", number=1, step="promote", outcome="done", detail=HOSTILE,
    duration_ms=3,
)  # fmt: skip
ENDED = RegistryRecoveryEnded(
    failed_registry="a", backup_registry="b", affected_miners=1, data_sync_completed=True,
    actual_recovery_ms=5, success=True,
)  # fmt: skip


def control(node_id: str, status: str = "healthy") -> ControlState:
    decision = ScopeAssigned(
        scope_name="miner-registry/eu", new_epoch=1, primary_node=node_id, region="eu",
        reason="bootstrap", based_on=0, based_on_epoch=0,
    )  # fmt: skip
    node = NodeState(node_id, "eu", "miner-registry", "", "e", 0, status, 1)
    scope = ScopeState("miner-registry/eu", 1, node_id, "eu", 0, decision, 2)
    return ControlState(
        scopes=MappingProxyType({scope.scope: scope}), nodes=MappingProxyType({node_id: node})
    )


def test_ids_are_escaped_wherever_they_stand() -> None:
    seen = Seen(control(HOSTILE), {"eu": 1.25}, Unavailable(HOSTILE))
    regions = regions_of(seen, ["eu"])
    items = [
        item_of(fact(data, str(n)), 0, ("eu.1.recovery", 0, n), (HOSTILE, "miner-registry/eu"))
        for n, data in enumerate((STARTED, STEP, ENDED))
    ]
    page = html(
        "page.html.j2", regions=regions, trouble=seen.trouble, events=lines(items),
        position='"><b>',
    )  # fmt: skip
    assert "<script>" not in page.replace('<script src="/page.js" defer>', "")
    assert '"><b>' not in page
    assert "1.2 s ago" in page


def test_region_without_a_node_and_a_part_that_does_not_answer_are_said() -> None:
    seen = Seen(ControlState(), {"eu": None}, Unavailable("PostgreSQL is away", hint="start it"))
    part = html("overview.html.j2", regions=regions_of(seen, ["eu"]), trouble=seen.trouble)
    assert "does not serve" in part
    assert "Nobody has led here yet" in part
    assert "PostgreSQL is away" in part
    page = html("page.html.j2", regions=[], trouble=None, events=[], position="p")
    assert "hidden" not in page.partition('id="empty"')[2].partition(">")[0]


def test_primary_that_is_lost_does_not_serve() -> None:
    found = regions_of(Seen(control("a", "lost"), {}), ["eu"])[0]
    assert "miner-registry/eu" in found["without"]
    found = regions_of(Seen(control("a", "suspected"), {}), ["eu"])[0]
    assert "miner-registry/eu" not in found["without"]


def test_operation_is_its_start_steps_and_end_and_a_repeat_changes_nothing() -> None:
    operations = Operations()
    for _ in range(2):
        for n, data in enumerate((STARTED, STEP, ENDED)):
            found = operations.observe(fact(data, str(n), "op"))
    assert (found.kind, found.scope, found.epoch) == ("registry-failover", "miner-registry/eu", 2)
    assert (found.success, found.ended_at, len(found.steps)) == (True, AT, 1)
    assert operations.ended == {("registry-failover", "miner-registry/eu", True): 1}
    assert [o.id for o in operations.newest(5)] == ["op"]


def test_event_is_a_cloud_event_whose_integers_are_texts() -> None:
    item = item_of(fact(STEP, "e1", "op"), 1, ("eu.1.recovery", 0, 7), ("op", "task-manager/eu"))
    event = json.loads(item.text)
    assert (event["specversion"], event["id"], event["source"]) == ("1.0", "e1", "/eu.1")
    assert (event["type"], event["subject"], event["offset"]) == (
        "everlode.OperationStep", "op", "7",
    )  # fmt: skip
    assert (event["stamp"], event["data"]["duration_ms"]) == (str(2**62), "3")
    assert (item.type, item.region, item.scope) == ("OperationStep", "eu", "task-manager/eu")
