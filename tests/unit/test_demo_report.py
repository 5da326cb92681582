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
from everlode.demo.report import save, summary
from everlode.proof.findings import Proof
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
    assert shown["RPO"] == "lost events: none"


def test_good_report_has_no_failures() -> None:
    assert failures(GOOD) == []


WRONG: dict[str, tuple[tuple[str, ...], Any]] = {
    "lost": (("proof", "lost_events"), ["e1"]),
    "difference": (("proof", "first_differences"), ["eu tasks t: missing"]),
    "error seen": (("promises", "P2_miners_do_not_notice", "exceptions_seen"), 1),
    "held": (("recovery", "held"), True),
    "recovery lost": (("recovery", "lost_event_ids"), ["e1"]),
    "nothing live": (("folded_live",), 0),
    "nothing in bulk": (("folded_bulk",), 0),
    "no verdict": (("verdicts",), {}),
    "no failover": (("failover",), {"ended": False, "lasting_tasks_at_kill": 3}),
    "another action": (("failover", "recovery_action"), "secondary-removed"),
    "nothing migrated": (("failover", "migrated_tasks"), 0),
    "refused": (("promises", "P1_mining_does_not_stop", "refused"), {"SubmitTask: no_room": 1}),
    "cancelled for solved": (("tasks", "ended"), {"rewarded": 1, "failed": 1, "cancelled": 2}),
    "rewarded for failed": (("tasks", "ended"), {"rewarded": 3, "cancelled": 1}),
    "failover failed": (("failover", "success"), False),
    "open task": (("tasks", "ended"), {"rewarded": 1, "assigned": 1, "failed": 1, "cancelled": 1}),
    "missing task": (("tasks", "ended"), {"rewarded": 2, "cancelled": 1}),
    "no reward": (("rewards", "paid"), 0),
    "nobody asked": (("promises", "P1_mining_does_not_stop", "during", "the kill", "asked"), 0),
    "no fault": (("promises", "P1_mining_does_not_stop", "during"), {}),
    "no answer": (("promises", "P1_mining_does_not_stop", "answered"), 0),
    "nobody moved": (("promises", "P2_miners_do_not_notice", "reconnected", "who"), 0),
    "no progress": (("promises", "P3_no_progress_lost", "acknowledged"), 0),
    "nothing to migrate": (("failover", "lasting_tasks_at_kill"), 0),
}


@pytest.mark.parametrize(("path", "value"), WRONG.values(), ids=WRONG.keys())
def test_report_with_one_thing_wrong_fails(path: tuple[str, ...], value: Any) -> None:
    report = copy.deepcopy(GOOD)
    at = report
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    assert len(failures(report)) == 1


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


def test_nothing_to_migrate_after_a_slow_failover_is_no_failure() -> None:
    slow = {**GOOD["failover"], "migrated_tasks": 0, "actual_recovery_ms": 9_000}
    assert failures({**GOOD, "failover": slow}) == []


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
