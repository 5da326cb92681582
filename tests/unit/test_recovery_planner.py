"""What a recovery's results mean: what is a success, what is held, which objectives are met."""

from __future__ import annotations

import json

import pytest

from everlode.recovery.planner import (
    PRIORITIES,
    ComponentResult,
    Replayed,
    health_ppm,
    is_held,
    judged,
    next_generation,
    remembered,
    rpo_met,
)
from everlode.recovery.request import RecoveryRequest


def asked(acceptable_s: int = 0, gate_ppm: int = 800_000) -> RecoveryRequest:
    return RecoveryRequest(
        plan_name="p", disaster_type="database-corruption", target_region="eu",
        max_acceptable_data_loss_s=acceptable_s, health_gate_ppm=gate_ppm,
    )  # fmt: skip


def hole(ms: int) -> Replayed:
    return Replayed(5, ["eu.1.tasks/0 seq 3..3"], 1, ms)


def stage(
    request: RecoveryRequest, tail: Replayed, reasons: tuple[str, ...] = ()
) -> ComponentResult:
    return judged(request, "task-manager", 7, tail, reasons)


def results(*successes: bool) -> list[ComponentResult]:
    return [
        ComponentResult(component, good, 1, 1, 1, 0, ())
        for component, good in zip(PRIORITIES, successes, strict=True)
    ]


def test_stage_whose_gate_passed_and_that_lost_nothing_is_a_success() -> None:
    assert stage(asked(), Replayed(5)) == ComponentResult("task-manager", True, 0, 7, 5, 0, ())


def test_stage_whose_gate_did_not_pass_is_none() -> None:
    found = stage(asked(3600), Replayed(5), ("3 facts are parked",))
    assert (found.success, found.reasons) == (False, ("3 facts are parked",))


@pytest.mark.parametrize(
    ("acceptable_s", "lost_ms", "success"),
    [(0, 500, False), (1, 1_000, True), (1, 1_001, False), (3600, 0, False)],
)
def test_hole_is_acceptable_by_its_span_and_never_when_that_is_not_known(
    acceptable_s: int, lost_ms: int, success: bool
) -> None:
    found = stage(asked(acceptable_s), hole(lost_ms))
    assert (found.success, found.data_loss_events) == (success, 1)
    assert found.reasons == ("lost: eu.1.tasks/0 seq 3..3",)
    assert found.lost == ("eu.1.tasks/0 seq 3..3",)


def test_one_component_that_failed_holds_the_recovery_whatever_its_health() -> None:
    assert not is_held(asked(), results(True, True, True, True, True))
    assert is_held(asked(gate_ppm=0), results(True, True, True, True, False))
    assert health_ppm(results(True, True, True, True, False)) == 800_000


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
    result = stage(asked(1), hole(500))
    assert remembered(json.loads(json.dumps(result._asdict()))) == result
