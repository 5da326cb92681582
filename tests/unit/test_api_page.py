"""The page as HTML: every value is escaped; empty and error states are said."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime
from types import MappingProxyType

import pytest

from everlode.api.aside import Aged, Aside
from everlode.api.feed import item_of
from everlode.api.overview import (
    FILES,
    NODES,
    NOTES,
    Seen,
    file,
    html,
    lines,
    nodes_by_region,
    regions_of,
    values_of,
)
from everlode.control.fold import ControlState, NodeState, ScopeState
from everlode.errors import Unavailable
from everlode.events.base import Envelope, Event, Evidence, Fact
from everlode.events.control import ScopeAssigned
from everlode.events.recovery import (
    BackupEnded,
    DeadLetterDiscarded,
    DeadLetterReplayed,
    HealingGivenUp,
    HealingStarted,
    HealingSucceeded,
    OperationStarted,
    OperationStep,
    RegistryChanged,
    RegistryRecoveryEnded,
)
from everlode.views.operations import Operations, about
from tests.support.facts.contrast import AA, contrast
from tests.support.world.large import large, scores
from tests.support.world.large import regions_of as large_regions

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
    seen = Seen(control(HOSTILE), {"eu": 1.25}, 0, Unavailable(HOSTILE))
    items = [
        item_of(fact(data, str(n)), 0, ("eu.1.recovery", 0, n), (HOSTILE, "miner-registry/eu"))
        for n, data in enumerate((STARTED, STEP, ENDED))
    ]
    page = html(
        "page.html.j2", events=lines(items), position='"><b>', form_key=HOSTILE,
        **values_of(seen, ["eu"]),
    )  # fmt: skip
    assert "<script>" not in page.replace('<script src="/page.js" defer>', "")
    assert '"><b>' not in page
    assert "1.2 s ago" in page


def test_region_without_a_node_and_a_part_that_does_not_answer_are_said() -> None:
    seen = Seen(ControlState(), {"eu": None}, 0, Unavailable("PostgreSQL is away", hint="start it"))
    part = html("overview.html.j2", **values_of(seen, ["eu"]))
    assert "does not serve" in part
    assert "Nobody has led here yet" in part
    assert "PostgreSQL is away" in part
    page = html("page.html.j2", events=[], position="p", form_key="", **values_of(seen, []))
    assert "hidden" not in page.partition('id="empty"')[2].partition(">")[0]


def test_primary_that_is_lost_does_not_serve() -> None:
    found = regions_of(Seen(control("a", "lost"), {}, 0), ["eu"])[0]
    assert "miner-registry/eu" in found["without"]
    found = regions_of(Seen(control("a", "degraded"), {}, 0), ["eu"])[0]
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


@pytest.mark.parametrize(("failed", "wanted"), [(None, 9), (11, 9), (8, 9)])
def test_cut_of_the_newest_backup_that_is_whole_is_known(failed: int | None, wanted: int) -> None:
    operations = Operations()
    operations.observe(fact(backup_ended(9, True), "1", "backup-1"))
    operations.observe(fact(backup_ended(5, True), "2", "backup-2"))  # one that came late
    if failed is not None:
        operations.observe(fact(backup_ended(failed, False), "3", "backup-3"))
    assert operations.cuts == {"eu": wanted}


def backup_ended(cut_stamp: int, success: bool) -> BackupEnded:
    return BackupEnded(
        backup_id="b", backup_type="full-system", bytes=1, records=1, cut_stamp=cut_stamp,
        manifest_sha256="a" * 64, verified=success, success=success,
    )  # fmt: skip


def test_healing_of_a_process_ends_well_or_not_and_begins_anew() -> None:
    operations = Operations()
    started = HealingStarted(process="eu/kafka", process_kind="kafka", attempt=1, waited_ms=0)
    healed = HealingSucceeded(process="eu/kafka", process_kind="kafka", attempts=1, lost_ms=9)
    given_up = HealingGivenUp(
        process="eu/kafka", process_kind="kafka", attempts=10, window_ms=1, reason="it ends"
    )
    found = operations.observe(fact(started, "1", "eu/kafka"))
    assert (found.kind, found.subject, found.success) == ("healing", "eu/kafka", None)
    operations.observe(fact(healed, "2", "eu/kafka"))
    assert (found.success, found.ended_at) == (True, AT)
    operations.observe(fact(started, "3", "eu/kafka"))
    assert (found.success, found.ended_at) == (None, None)
    operations.observe(fact(given_up, "4", "eu/kafka"))
    assert found.success is False
    assert operations.ended == {("healing", "eu", True): 1, ("healing", "eu", False): 1}


@pytest.mark.parametrize("kind", [DeadLetterReplayed, DeadLetterDiscarded])
def test_what_became_of_a_dead_letter_is_an_operation_that_has_ended_well(
    kind: type[DeadLetterReplayed | DeadLetterDiscarded],
) -> None:
    operations = Operations()
    data = kind(
        consumer="primary", topic="eu.commands.tasks", partition=0, offset=1, code="broken",
        letter_offset=0, operator="ann", reason="",
    )  # fmt: skip
    letter = fact(data, "e", "primary/eu.commands.tasks/0/1")
    assert about(operations, "eu.1.recovery", letter) == (letter.envelope.aggregate_id, "")
    found = operations.get("primary/eu.commands.tasks/0/1")
    assert found is not None
    assert (found.kind, found.success, found.started_at) == ("dead-letter", True, found.ended_at)
    assert [part["type"] for part in found.parts] == [kind.__name__]


def test_registry_that_leads_without_a_loss_is_an_operation_and_one_after_a_loss_is_none() -> None:
    changed = RegistryChanged(
        scope_name="miner-registry/eu", scope_epoch=3, region="eu", from_node="a", to_node="b",
        endpoint="h:1",
    )  # fmt: skip
    operations = Operations()
    found = operations.observe(fact(changed, "e", "of-its-own"))
    assert (found.kind, found.subject, found.epoch) == ("registry-change", "b", 3)
    assert (found.success, found.started_at, found.ended_at) == (True, AT, AT)
    for n, data in enumerate((STARTED, changed)):
        found = operations.observe(fact(data, str(n), "op"))
    assert (found.kind, found.ended_at) == ("registry-failover", None)


def test_line_of_an_event_says_on_which_evidence_in_the_words_of_the_script() -> None:
    notes = ("silent for 3 s", "", HOSTILE, "phi is 9", "too many")
    places = tuple(Evidence(topic="t", partition=0, offset=1, note=note) for note in notes)
    started = STARTED.model_copy(update={"evidence": places})
    item = item_of(fact(started, "e1", "op"), 1, ("eu.1.recovery", 0, 7), ("op", ""))
    (line,) = lines([item])
    assert line["about"].endswith(f"silent for 3 s, {HOSTILE}, phi is 9")
    script = file("page.js").decode()
    assert f"(d.evidence || []).map((e) => e.note).filter(Boolean).slice(0, {NOTES})" in script


def test_event_is_a_cloud_event_whose_integers_are_texts() -> None:
    item = item_of(fact(STEP, "e1", "op"), 1, ("eu.1.recovery", 0, 7), ("op", "task-manager/eu"))
    event = json.loads(item.text)
    assert (event["specversion"], event["id"], event["source"]) == ("1.0", "e1", "/eu.1")
    assert (event["type"], event["subject"], event["offset"]) == (
        "everlode.OperationStep", "op", "7",
    )  # fmt: skip
    assert (event["stamp"], event["data"]["duration_ms"]) == (str(2**62), "3")
    assert (item.type, item.region, item.scope) == ("OperationStep", "eu", "task-manager/eu")


def test_health_of_regions_and_nodes_is_shown_with_what_lowers_it_and_how_old_it_is() -> None:
    scores = {
        "regions": [{"name": "eu", "score": 0.871, "reason": "rewards/eu"}],
        "nodes": [{"name": HOSTILE, "score": None, "reason": HOSTILE}],
    }
    seen = Seen(control(HOSTILE), {"eu": 1.0}, 0, health=Aged(scores, 3.0))
    part = html("overview.html.j2", **values_of(seen, ["eu"]))
    assert "health 0.87 · rewards/eu" in part
    assert "<td>? · &lt;script&gt;" in part
    assert "<script" not in part
    assert "as of" not in part
    old = html("overview.html.j2", **values_of(seen._replace(health=Aged(scores, 90)), ["eu"]))
    assert "as of 90 s ago" in old
    none = html("overview.html.j2", **values_of(seen._replace(health=None), ["eu"]))
    assert "health is not known yet" in none


def test_what_is_computed_aside_holds_nobody_up_and_is_tried_again() -> None:
    go, at_it, done = threading.Event(), threading.Event(), threading.Event()
    found = iter([Unavailable("away"), 7])

    def compute() -> object:
        at_it.set()
        assert go.wait(10)
        value = next(found)
        if isinstance(value, Exception):
            raise value
        return value

    aside = Aside(fresh_s=3600)
    for _ in range(2):
        assert aside.newest(compute) is None
        assert at_it.wait(10)
        assert aside.newest(compute) is None  # one is at it
        go.set()
        join_aside()
        go.clear()
        at_it.clear()
    newest = aside.newest(lambda: done.set())
    assert newest is not None
    assert (newest.value, done.is_set()) == (7, False)
    assert 0 <= newest.age_s < 60


def join_aside() -> None:
    """Until nobody computes."""
    for thread in threading.enumerate():
        if thread.name == "aside":
            thread.join(10)
            assert not thread.is_alive()


def test_page_of_a_large_network_is_small_and_has_who_is_not_well_and_who_leads() -> None:
    control, regions = large(100, 10_000), large_regions(100)
    health = Aged(scores(control, regions), 1.0)
    seen = Seen(control, dict.fromkeys(regions, 1.0), 0, health=health)
    values = values_of(seen, regions)
    sizes = [len(file(name)) for name in FILES]
    page = html("overview.html.j2", **values)
    assert len(page.encode()) + sum(sizes) < 150_000  # 200 kB with a hundred events
    there = {node["node_id"]: node["status"] for r in values["regions"] for node in r["nodes"]}
    lost = {name for name, node in control.nodes.items() if node.status == "lost"}
    assert len(there) == NODES
    assert lost == {name for name, status in there.items() if status == "lost"}
    assert {scope.primary for scope in control.scopes.values()} <= there.keys()
    assert page.count("none of them not healthy") == 25
    assert f"and {400 - NODES // 25} more" in page


def test_nodes_that_are_left_out_are_counted_also_when_most_are_not_well() -> None:
    many = {
        f"n{number:02}": NodeState(f"n{number:02}", "eu", "rewards", "", "e", 0, status, 1)
        for number, status in enumerate(["lost"] * 25 + ["healthy"] * 5)
    }
    found = nodes_by_region(ControlState(nodes=MappingProxyType(many)), 10)
    assert (len(found["eu"].shown), found["eu"].more, found["eu"].unwell) == (10, 20, 15)
    assert found["us"].shown == []
    page = html("overview.html.j2", **values_of(Seen(control("a"), {}, 0), ["eu"]))
    assert "more" not in page


def test_text_of_the_pages_can_be_read_on_its_ground_by_day_and_by_night() -> None:
    style = file("page.css").decode()
    schemes = [
        dict(re.findall(r"--(\w+):(#\w+)", root)) for root in re.findall(":root{.*?}", style)
    ]
    assert len(schemes) == 2
    for scheme in schemes:
        ground = scheme.pop("ground")
        assert scheme.pop("line")  # what only divides
        assert scheme.keys() == {"ink", "soft", "good", "bad", "late"}
        assert {n: c for n, c in scheme.items() if contrast(c, ground) < AA} == {}
    colours = set(re.findall(r"[^-]color:([^;}]+)", style)) - {"inherit"}
    assert colours <= {f"var(--{name})" for name in scheme}  # all text has one of these
    assert "opacity" not in style  # which would take it back
