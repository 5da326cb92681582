"""The estimate of a handling's time, and its score: from enough cases, else unknown, counted."""

from __future__ import annotations

from everlode.events.recovery import RewardRecoveryEnded
from everlode.failover.estimates import FEWEST, Estimate, History, Score


def ended(took: int, foreseen: int | None = None, *, success: bool = True) -> RewardRecoveryEnded:
    return RewardRecoveryEnded(
        failed_distributor="n", pending_payouts=0, actual_recovery_ms=took, success=success,
        estimated_recovery_ms=foreseen, estimate_cases=0 if foreseen is None else FEWEST,
    )  # fmt: skip


def history(*ends: RewardRecoveryEnded) -> History:
    found = History()
    for end in ends:
        found.observe(end)
    return found


def test_fewer_than_five_cases_are_unknown_and_counted() -> None:
    assert history().estimate == Estimate(None, 0)
    assert history(*[ended(1_000)] * 4).estimate == Estimate(None, 4)
    assert history(*[ended(1_000)] * 4).score == Score(0, None, None)


def test_estimate_is_what_is_typical_whatever_one_case_took() -> None:
    took = [1_000, 1_100, 1_200, 1_300, 90_000]
    assert history(*map(ended, took)).estimate == Estimate(1_200, 5)


def test_handling_without_success_says_nothing_about_time() -> None:
    failed = [ended(10, 10, success=False)] * 9
    assert history(*failed, *[ended(1_000)] * 4).estimate == Estimate(None, 4)
    assert history(*failed).score == Score(0, None, None)


def test_estimates_are_scored_against_what_happened() -> None:
    cases = [ended(1_000, 900), ended(1_000, 1_100), ended(1_000, 1_400), ended(1_000, 3_000)]
    assert history(*cases).score == Score(4, None, None)
    assert history(*cases, ended(1_000, 1_000)).score == Score(5, 100, 4)


def test_end_of_an_older_build_whose_estimate_was_a_mean_of_fewer_is_not_scored() -> None:
    older = ended(1_000, 900).model_copy(update={"estimate_cases": 0})
    found = history(*[older] * 6)
    assert found.estimate == Estimate(1_000, 6)
    assert found.score == Score(0, None, None)
