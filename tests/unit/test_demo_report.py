"""The report: one page that loads nothing, escapes everything; what must hold fails the run."""

from __future__ import annotations

import copy
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from everlode.demo.collect import failover, failures, fraud
from everlode.demo.page import html
from everlode.demo.report import save, summary, way_out
from everlode.proof.findings import Proof
from everlode.proof.floors import DISASTER, FLOORS, SIGKILL, WINDOWS
from everlode.workload.plan import plan
from everlode.workload.trace import generate, share_of
from tests.support.facts.report import GOOD


class Loads(HTMLParser):
    """Collects tags, and whatever a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [f"{tag} {k}" for k, _ in attrs if k in ("src", "href", "srcset", "data")]


def test_page_loads_nothing_and_escapes_what_it_shows() -> None:
    page = Loads()
    page.feed(html(GOOD))
    assert page.loads == []
    assert not {"script", "link", "iframe", "img", "b"} & set(page.tags)
    assert page.tags.count("li") == len(GOOD["timeline"])
    assert page.tags.count("figure") == 4


def test_page_draws_answers_in_time_and_late_faults_lag_and_stages() -> None:
    page = html(GOOD)
    assert page.count('class="in"') == 2
    assert page.count('class="late"') == 1
    assert page.count('class="fault"') == 3  # on each chart that has a time
    assert page.count('class="l0"') == 1
    assert page.count('class="l1"') == 0  # of us there is no sample
    assert "miner-registry: 30 ms, 5 restored, 2 replayed" in page


def test_page_says_the_promises_in_words_and_marks_a_broken_one() -> None:
    assert "100.00% of 10 commands were answered within 15 s" in html(GOOD)
    assert 'class="card no"' not in html(GOOD)
    broken = copy.deepcopy(GOOD)
    broken["promises"]["P3_no_progress_lost"]["went_back"] = 1
    assert html(broken).count('class="card no"') == 1


def test_page_says_proved_only_without_failures() -> None:
    assert "Everlode: proved" in html(GOOD)
    assert ">Proved<" in html(GOOD)
    assert "Everlode: not proved" in html({**GOOD, "failures": ["reward t|m: paid twice"]})


def test_report_is_saved_as_json_and_page(tmp_path: Path) -> None:
    plain, page = save(GOOD, tmp_path / "new" / "folder")
    assert json.loads(plain.read_text()) == GOOD
    assert page.read_text().startswith("<!doctype html>")


def test_summary_has_every_promise() -> None:
    shown = dict(summary(GOOD))
    assert {"P1", "P2", "P3", "P4", "RPO", "RTO", "failover", "fraud", "proof"} <= shown.keys()
    assert "validator eu-val-1, then eu-val-2 (epoch 1 to 2, 3100 ms" in shown["killed"]
    assert shown["RPO"] == "lost events: none"


def test_good_report_has_no_failures() -> None:
    assert failures(GOOD) == []


P1 = ("promises", "P1_mining_does_not_stop")
P2 = ("promises", "P2_miners_do_not_notice")
P3 = ("promises", "P3_no_progress_lost")
P4 = ("promises", "P4_rewards_right_and_once")
KILL, LOSS = ((*P1, "during", name) for name in WINDOWS)
P1_GOOD = GOOD["promises"]["P1_mining_does_not_stop"]
PART = ("recovery", "components", 0)
RD = ("kills", "reward-distributor")
Change = tuple[tuple[str | int, ...], Any]
WRONG: dict[str, list[Change]] = {
    "95 % of all commands": [
        ((*P1, "share_within_deadline"), 0.0), ((*P1, "share_within_deadline"), 0.9499),
    ],
    "in each fault's window": [
        ((*KILL, "share_within_deadline"), 0.5), ((*LOSS, "share_within_deadline"), 0.5),
    ],
    "no client or miner is refused": [((*P1, "refused"), {"SubmitTask: no_room": 1})],
    "no client or miner sees an error": [
        ((*P2, "exceptions_seen"), 1), ((*P1, "error_count"), 5_000), ((*KILL, "exceptions"), 1),
    ],
    "95 % of those whose node": [((*P2, "reconnected", "p95_ms"), 30_001)],
    "no acknowledged progress": [((*P3, "went_back"), 1)],
    "every rewarded task is paid": [((*P4, "wrong_or_twice"), 1), ((*P4, "paid"), 1)],
    "nobody honest is convicted": [(("fraud", "falsely_accused"), [f"m{n}" for n in range(900)])],
    "a third of the cheats": [(("fraud", "by_vice", "hasty", "found"), 0)],
    "the killed task manager's successor": [
        (("failover", "success"), False), (("failover", "recovery_action"), "secondary-removed"),
    ],
    "the successor of the primary": [
        ((*RD, "success"), None), ((*RD, "successor"), None), ((*RD, "successor"), "eu-rd-1"),
        ((*RD, "epoch_after"), None), ((*RD, "epoch_after"), 1), ((*RD, "facts_after"), 0),
    ],
    "tasks that it managed": [(("failover", "migrated_tasks"), 0)],
    "no acknowledged event is lost": [
        (("proof", "lost_events"), ["e1"]), (("recovery", "lost_event_ids"), ["e1"]),
        ((*P2, "submissions_lost"), 1), (("recovery", "rpo_met"), False),
        ((*PART, "data_loss_events"), 1),
    ],
    "`eu`'s projection is back": [
        (("recovery", "rto_met"), False), (("times_s", "recovery_s"), 300.1),
    ],
    "it passes every gate": [
        (("recovery", "held"), True), (("recovery", "overall_success"), False),
        ((*PART, "success"), False),
    ],
    "every region's projection": [
        (("proof", "differences"), 1), (("proof", "first_differences"), ["eu tasks t: missing"]),
    ],
    "events are folded live": [(("folded_live",), 0), (("folded_bulk",), 0)],
    "every task ends as planned": [
        (("tasks", "ended"), {"rewarded": 2, "failed": 2}),  # none is cancelled
        (("tasks", "ended"), {"rewarded": 2, "cancelled": 2}),  # none has failed
        (("tasks", "ended"), {"rewarded": 2, "cancelled": 1}),
        (("tasks", "ended"), {"rewarded": 2, "assigned": 1, "cancelled": 1}),
    ],
}  # fmt: skip
"""How a floor begins → figures, each of which breaks that one and no other."""
VACUOUS: dict[str, list[Change]] = {
    "95 % of all commands": [((*P1, "answered"), 0)],
    "in each fault's window": [
        ((*P1, "during"), {}),
        ((*KILL, "asked"), 0),
        ((*LOSS, "asked"), 0),
        ((*P1, "during"), {SIGKILL: P1_GOOD["during"][SIGKILL]}),
        ((*P1, "during"), {DISASTER: P1_GOOD["during"][DISASTER]}),
    ],
    "no client or miner is refused": [((*P1, "answered"), 0)],
    "no client or miner sees an error": [((*P1, "answered"), 0)],
    "95 % of those whose node": [((*P2, "reconnected", "who"), 0)],
    "no acknowledged progress": [((*P3, "acknowledged"), 0)],
    "every rewarded task is paid": [((*P4, "paid"), 0)],
    "nobody honest is convicted": [(("fraud", "acted"), 0)],
    "a third of the cheats": [(("fraud", "by_vice", "hasty", "acted"), 0)],
    "the killed task manager's successor": [(("verdicts",), {})],
    "the successor of the primary": [
        (("kills",), {}),
        (("kills",), {"task-manager": GOOD["kills"]["task-manager"]}),
        ((*RD, "led"), False),
        ((*RD, "found_lost"), False),
        ((*RD, "facts_before"), 0),
    ],
    "tasks that it managed": [(("failover", "lasting_tasks_at_kill"), 0)],
    "no acknowledged event is lost": [(("acknowledged_events",), 0)],
    "`eu`'s projection is back": [(("recovery", "components"), [])],
    "it passes every gate": [(("backup", "records"), 0)],
    "every region's projection": [(("proof", "compared_keys"), 0)],
    "events are folded live": [(("events",), 0)],
    "every task ends as planned": [(("tasks", "planned"), {})],
}
"""How a floor begins → figures that leave nothing that could have broken it."""


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """The good report with one figure changed."""
    report = copy.deepcopy(GOOD)
    at: Any = report
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return report


def flat(cases: dict[str, list[Change]]) -> list[Any]:
    return [
        pytest.param(floor, *change, id=f"{floor}: {'.'.join(map(str, change[0]))}")
        for floor, changes in cases.items()
        for change in changes
    ]


@pytest.mark.parametrize(("floor", "path", "value"), flat(WRONG))
def test_floor_that_is_not_reached_alone_fails_the_run(
    floor: str, path: tuple[str | int, ...], value: Any
) -> None:
    (why,) = failures(changed(path, value))
    (missed,) = [f for f in FLOORS if f.floor.startswith(floor)]
    assert why.startswith(f"{missed.promise}: {missed.floor}, but ")


@pytest.mark.parametrize(("floor", "path", "value"), flat(VACUOUS))
def test_promise_that_nothing_could_have_broken_fails_the_run(
    floor: str, path: tuple[str | int, ...], value: Any
) -> None:
    found = [why for why in failures(changed(path, value)) if f": {floor}" in why]
    assert len(found) == 1
    assert found[0].startswith("vacuous: ")


def test_every_floor_has_its_cases() -> None:
    for cases in (WRONG, VACUOUS):
        begun = [next(f for f in FLOORS if f.floor.startswith(name)) for name in cases]
        assert begun == list(FLOORS)


@pytest.mark.parametrize(
    "path", [(*P1, "share_within_deadline"), ("fraud",), ("recovery", "rto_met")]
)
def test_figure_that_is_missing_is_not_reached(path: tuple[str, ...]) -> None:
    assert failures(changed(path, None))
    report = changed(path, None)
    at = report
    for name in path[:-1]:
        at = at[name]
    del at[path[-1]]
    assert failures(report)


def test_floors_in_the_docs_are_those_that_are_asked() -> None:
    text = (Path(__file__).parents[2] / "docs" / "demo.md").read_text()
    rows = [f"| {f.promise} | {f.floor} | {f.case} |" for f in FLOORS]
    assert "\n".join(rows) in text


def test_failover_that_has_not_ended_is_no_success() -> None:
    found = failures(changed(("failover",), {"ended": False, "lasting_tasks_at_kill": 3}))
    assert len(found) == 2  # nobody was promoted, and nothing moved


def test_nothing_to_migrate_is_no_failure_when_nothing_was_assigned() -> None:
    report = changed(("failover", "lasting_tasks_at_kill"), 0)
    assert failures({**report, "kill_at": "before-first-assignment"}) == []


def test_nothing_written_is_no_failure_when_nothing_had_begun() -> None:
    report = changed((*RD, "facts_before"), 0)
    assert failures({**report, "kill_at": "before-first-assignment"}) == []


def test_page_shows_what_the_terminal_does_of_events() -> None:
    page = html({**GOOD, "events": 123_456, "folded_bulk": 654_321})
    assert "123456" in page
    assert "654321" in page
    assert "kill at" in page


def test_failover_is_the_one_of_the_node_that_was_killed() -> None:
    def ended(node: str, operation: str, migrated: int) -> tuple[str, dict[str, Any]]:
        envelope = {"aggregate_id": operation}
        return "TaskManagerRecoveryEnded", {
            "envelope": envelope, "failed_node": node, "recovery_action": "secondary-promoted",
            "new_primary": "n2", "migrated_tasks": migrated, "estimated_recovery_ms": None,
            "actual_recovery_ms": 5, "success": True, "detect_ms": 7,
        }  # fmt: skip

    def promoted(operation: str, ms: int) -> tuple[str, dict[str, Any]]:
        envelope = {"aggregate_id": operation}
        return "OperationStep", {"envelope": envelope, "step": "promote", "duration_ms": ms}

    stream = [ended("us-tm-2", "o1", 9), promoted("o1", 1), promoted("o2", 2),
              ended("eu-tm-1", "o2", 3)]  # fmt: skip
    found = failover(stream, "eu-tm-1")
    assert (found["migrated_tasks"], found["time_to_promote_ms"]) == (3, 2)
    assert failover(stream, "eu-tm-3") == {"ended": False}


@pytest.mark.parametrize("took_ms", [100, 8_000, 9_000, 60_000, 600_000])
def test_failover_that_migrated_nothing_fails_the_run_however_slow_it_was(took_ms: int) -> None:
    slow = {**GOOD["failover"], "migrated_tasks": 0, "actual_recovery_ms": took_ms}
    (why,) = failures({**GOOD, "failover": slow})
    assert "tasks that it managed and that outlive the failover migrate, but" in why


def test_fraud_is_counted_against_the_planted_truth_and_who_acted() -> None:
    workload = plan(share_of(generate(1), 0.05), 1, ("eu", "us", "ap"))
    wrong, copier = (
        next(m.miner_id for m in workload.miners if m.vice == v) for v in ("wrong", "copier")
    )
    colluder = next(m.miner_id for m in workload.miners if m.colludes)
    honest = next(m.miner_id for m in workload.miners if m.vice == "honest" and not m.colludes)
    proof = Proof(
        fraud_confirmed=sorted([copier, honest]),
        fraud_suspected=sorted([copier, honest, wrong]),
        solved_by={copier, wrong, honest},
        approvals={(colluder, wrong), (honest, honest)},
        cases={"copied-solution, confirmed": 2},
    )
    found = fraud(workload, proof)
    assert (found["acted"], found["found"], found["falsely_accused"]) == (3, 1, [honest])
    assert (found["suspected"], found["falsely_suspected"]) == (3, 1)
    assert found["by_vice"]["copier"]["found"] == 1
    assert found["by_vice"]["colluder"]["acted"] == 1


def test_machine_that_was_too_slow_is_named_with_a_pace_that_it_carries() -> None:
    slow = copy.deepcopy(GOOD)
    slow |= {"speed": 1.0, "machine": {"cores": 2, "memory_bytes": 1, "python": "3"}}
    slow["times_s"] |= {"total_s": 1000.0, "work_s": 800.0, "planned_work_s": 131.0}
    slow["resources"]["processor_s"] = {"kafka": 1000.0, "projector": 840.0}
    assert way_out(slow) == (
        "the machine was busy for 92% of the time, and took 800 s for what was planned in 131 s: "
        "try --speed 0.1"
    )
    slow["resources"]["processor_s"] = {"kafka": 700.0}
    assert way_out(slow) == ""  # it had time: what was late is ours
