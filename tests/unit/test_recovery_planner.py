"""What a recovery's results mean: what is a success, what is held, which objectives are met."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest

from everlode.health.score import Health
from everlode.recovery.fitness import unfit
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.planner import (
    ACCEPTABLE,
    ComponentResult,
    Finding,
    Replayed,
    accepting,
    health_ppm,
    judged,
    next_generation,
    remembered,
    rpo_met,
    unhealthy,
)
from everlode.recovery.request import RecoveryRequest
from everlode.recovery.services import ask_services, noted_services

NAME = "eu.1.tasks/0 seq 3..3"
WAITS = Finding("parked", "3 keys wait")


def asked(acceptable_s: int = 0, gate_ppm: int = 800_000) -> RecoveryRequest:
    return RecoveryRequest(
        plan_name="p", disaster_type="database-corruption", target_region="eu",
        max_acceptable_data_loss_s=acceptable_s, health_gate_ppm=gate_ppm,
    )  # fmt: skip


def hole(ms: int | None) -> Replayed:
    found = Replayed(5)
    found.lose(NAME, 1, ms)
    return found


def stage(request: RecoveryRequest, tail: Replayed, *findings: Finding) -> ComponentResult:
    return judged(request, "task-manager", 7, tail, findings)


def test_stage_whose_gate_passed_and_that_lost_nothing_is_a_success() -> None:
    assert stage(asked(), Replayed(5)) == ComponentResult("task-manager", True, 0, 7, 5, 0, ())


def test_stage_against_which_something_was_found_is_none() -> None:
    found = stage(asked(3600), Replayed(5), WAITS)
    assert (found.success, found.reasons) == (False, ("parked: 3 keys wait",))


@pytest.mark.parametrize(
    ("acceptable_s", "lost_ms", "success"),
    [(0, 500, False), (0, 0, False), (1, 0, True), (1, 1_000, True), (1, 1_001, False),
     (3600, None, False)],
)  # fmt: skip
def test_hole_is_acceptable_by_its_span_and_never_when_that_is_not_known(
    acceptable_s: int, lost_ms: int | None, success: bool
) -> None:
    found = stage(asked(acceptable_s), hole(lost_ms))
    assert (found.success, found.data_loss_events) == (success, 1)
    assert found.reasons == (() if success else (f"lost: {NAME}",))
    assert found.lost == (NAME,)


def test_span_of_several_holes_is_the_largest_unless_one_is_not_known() -> None:
    found = hole(500)
    found.lose("other", 2, 700)
    assert (found.lost_ms, found.lost_count) == (700, 3)
    found.lose("third", 1, None)
    found.lose("fourth", 1, 900)
    assert found.lost_ms is None


def test_what_is_not_known_to_be_lost_is_never_acceptable_and_never_nothing() -> None:
    tail = Replayed(5, unknown=["eu.1.tasks/0 after seq 9"])
    found = stage(asked(3600), tail)
    assert (found.success, found.reasons) == (False, ("unknown: eu.1.tasks/0 after seq 9",))
    assert not rpo_met(asked(3600), [found])


def test_operator_accepts_kinds_and_the_report_keeps_what_was_found() -> None:
    found = stage(asked(), hole(500), WAITS)
    part = accepting(found, {"parked"})
    assert (part.success, part.reasons) == (False, (f"lost: {NAME}",))
    assert part.accepted == ("parked: 3 keys wait",)
    whole = accepting(found, {"parked", "lost"})
    assert (whole.success, whole.reasons, len(whole.accepted)) == (True, (), 2)
    assert not rpo_met(asked(), [whole]), "an objective that was missed is"


def test_broken_generation_is_nothing_to_accept() -> None:
    assert {"rows", "incomplete"}.isdisjoint(ACCEPTABLE)


def active(whole: int, partly: int) -> dict[str, int]:
    return {"total_tasks": whole + partly, "fully_recovered": whole}


@pytest.mark.parametrize(
    ("gate_ppm", "whole", "partly", "passes"),
    [(1_000_000, 5, 0, True), (1_000_000, 999_999, 1, False), (1_000_000, 0, 0, True),
     (800_000, 4, 1, True), (800_001, 4, 1, False), (800_000, 799_999, 200_001, False),
     (1, 0, 1, False), (0, 0, 1, True)],
)  # fmt: skip
def test_health_gate_is_the_least_share_of_active_tasks_that_are_whole(
    gate_ppm: int, whole: int, partly: int, passes: bool
) -> None:
    reasons = unhealthy(asked(gate_ppm=gate_ppm), health_ppm(active(whole, partly)))
    assert (reasons == ()) is passes
    assert unhealthy(asked(gate_ppm=gate_ppm), 0, {"health"}) == ()


def test_rpo_of_nothing_is_met_by_no_loss_alone() -> None:
    none, some = stage(asked(), Replayed()), stage(asked(), hole(0))
    assert rpo_met(asked(), [none])
    assert not rpo_met(asked(), [none, some])
    assert rpo_met(asked(2), [none, stage(asked(2), hole(2_000))])
    assert not rpo_met(asked(2), [none, stage(asked(2), hole(2_001))])


def test_generation_is_above_every_one_that_is_known() -> None:
    assert next_generation(1, 1, ()) == 2
    assert next_generation(0, 4, (2, 7)) == 8


def test_result_comes_back_from_the_journal_as_it_was() -> None:
    result = stage(asked(1), hole(500), WAITS)
    assert remembered(json.loads(json.dumps(result._asdict()))) == result


def services(score: float | None) -> Health:
    return Health("region", "eu", score, "rewards/eu: nobody leads", ())


@pytest.mark.parametrize(
    ("gate_ppm", "score", "passes"),
    [(800_000, 0.8, False), (800_000, 0.801, True), (800_000, 0.0, False), (800_000, None, True),
     (0, 0.0, True), (999_999, 0.9, False)],
)  # fmt: skip
def test_services_gate_is_what_their_health_must_be_above_where_somebody_works(
    gate_ppm: int, score: float | None, passes: bool
) -> None:
    request = asked().model_copy(update={"services_gate_ppm": gate_ppm})
    reasons = unfit(request, services(score))
    assert (reasons == ()) is passes
    assert all("rewards/eu: nobody leads" in reason for reason in reasons)
    assert unfit(request, services(score), {"services"}) == unfit(request, None) == ()


def test_services_are_asked_until_they_pass_and_what_was_found_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everlode.recovery.services.AGAIN_S", 0.0)
    journal = RecoveryJournal(tmp_path / "journal")
    answers = iter([0.1, 0.5, 0.9, 0.0])
    assert noted_services(journal) is None
    found = ask_services(asked(), lambda: services(next(answers)), journal, ())
    assert found.score == 0.9
    accepted = ask_services(asked(), lambda: services(next(answers)), journal, {"services"})
    assert accepted.score == 0.0
    monkeypatch.setattr("everlode.recovery.services.WAIT_S", 0.0)
    assert ask_services(asked(), lambda: services(0.2), journal, ()).score == 0.2
    journal.close()
    read = RecoveryJournal(tmp_path / "journal")
    again = noted_services(read)
    read.close()
    assert again is not None
    assert (again["score"], again["reason"]) == (0.2, "rewards/eu: nobody leads")


def test_what_a_replay_came_to_is_remembered_as_it_was(tmp_path: Path) -> None:
    found = hole(None)
    found.fetched.append("eu.1.tasks/0 seq 9..9")
    found.findings.append(Finding("fork", "another log"))
    path = tmp_path / "journal.jsonl"
    with closing(RecoveryJournal(path)) as journal:
        journal.note("replayed-tasks", **asdict(found))
    with closing(RecoveryJournal(path)) as journal:
        assert Replayed.remembered(journal.done["replayed-tasks"]) == found


def test_journal_that_several_threads_note_in_is_whole(tmp_path: Path) -> None:
    path, steps = tmp_path / "journal.jsonl", [f"hole {number}" for number in range(200)]
    with closing(RecoveryJournal(path)) as journal, ThreadPoolExecutor(8) as threads:
        list(threads.map(journal.note, steps))
        noted = journal.done
    with closing(RecoveryJournal(path)) as journal:
        assert set(journal.done) == set(steps) == set(noted)
