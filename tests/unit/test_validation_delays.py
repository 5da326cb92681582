"""How long what waited at a validator's loss has waited on: measured once, whoever measures."""

from __future__ import annotations

import pytest

from everlode.events.recovery import ValidationDelayMeasured, ValidationRecoveryEnded
from everlode.failover.estimates import FEWEST, History, Score
from everlode.validations.delays import Delays, Waits

OLD, NEW = Waits("automatic", 100, 0), Waits("automatic", 1_500, 0)
ENDED_MS = 1_000


def ended(estimate: int | None = 700) -> ValidationRecoveryEnded:
    return ValidationRecoveryEnded(
        failed_validator="val-1", validator_type="automatic", redistributed_tasks=2,
        estimated_delay_ms=estimate, actual_recovery_ms=5, success=True,
    )  # fmt: skip


def measured(actual_ms: int) -> list[tuple[str, ValidationDelayMeasured]]:
    data = ValidationDelayMeasured(
        failed_validator="val-1", validator_type="automatic", estimated_delay_ms=700,
        actual_delay_ms=actual_ms,
    )  # fmt: skip
    return [("o", data)]


def test_delay_ends_with_the_last_that_waited_then_and_not_with_what_came_later() -> None:
    delays, waits = Delays(), {"a": OLD, "b": OLD, "c": NEW}
    delays.ended("o", ENDED_MS, ended())
    assert list(delays.due(waits)) == []
    waits["d"] = NEW
    for key, at_ms in (("a", 1_400), ("d", 1_600), ("b", 1_900)):
        assert list(delays.due(waits)) == []
        delays.left(key, waits.pop(key), at_ms)
    assert list(delays.due(waits)) == measured(900)
    assert list(delays.due(waits)) == measured(900), "until it is read back"
    delays.measured("o")
    assert list(delays.due(waits)) == []


@pytest.mark.parametrize("first", ["end", "decisions"])
def test_coordinator_that_begins_after_all_was_decided_measures_the_same(first: str) -> None:
    delays = Delays()
    if first == "end":
        delays.ended("o", ENDED_MS, ended())
    for waited, at_ms in ((OLD, 900), (OLD, 1_400), (Waits("expert", 0, 0), 9_000), (OLD, 1_900)):
        delays.left("a", waited, at_ms)
    delays.left("c", NEW, 2_000)
    if first != "end":
        delays.ended("o", ENDED_MS, ended())
    assert list(delays.due({})) == measured(900)


def test_what_was_decided_before_all_that_was_read_and_what_was_told_before_is_not_measured() -> (
    None
):
    delays = Delays()
    delays.ended("o", ENDED_MS, ended())
    delays.left("c", NEW, 2_000)
    assert list(delays.due({})) == []
    again = Delays()
    again.ended("o", ENDED_MS, ended())
    again.measured("o")
    again.ended("o", ENDED_MS, ended())
    again.left("a", OLD, 1_400)
    assert list(again.due({})) == []


def test_end_without_an_estimate_is_not_measured() -> None:
    delays = Delays()
    delays.ended("o", ENDED_MS, ended(None))
    delays.left("a", OLD, 1_400)
    assert list(delays.due({})) == []


def test_delays_are_scored_as_other_estimates_are_from_five_on() -> None:
    history = History()
    for case in range(FEWEST):
        assert history.delay_score == Score(case, None, None)
        history.measured(700, 1_000 + 1_000 * case)
    assert history.delay_score == Score(FEWEST, 2_300, 1)
    assert history.score == Score(0, None, None)
