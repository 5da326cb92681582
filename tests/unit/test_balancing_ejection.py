"""Who fails is ejected for longer each time, a tenth at most, and comes back little by little."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.balancing import ejection as e
from everlode.balancing.assign import Excluded, choose_miner, excluded, field_of, trust_for
from everlode.balancing.outliers import Outliers, Trust
from everlode.events.states import MinerState, Performance
from tests.unit.test_balancing import miner, task

NOW = datetime(2026, 1, 1, tzinfo=UTC)
_outcomes = st.lists(st.tuples(st.integers(0, 200_000), st.booleans()), max_size=40)


def ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def failed(*seconds: float, outcome: str = "failed") -> tuple[Performance, ...]:
    """Outcomes so many seconds after NOW."""
    return tuple(Performance(f"t{s}", outcome, 0, 0, NOW + timedelta(seconds=s)) for s in seconds)


def trusted(*miners: MinerState, after_s: float = 1.0, count: int | None = None) -> Trust:
    outliers = Outliers()
    for each in miners:
        outliers.observe(each)
    return outliers.at(NOW + timedelta(seconds=after_s), count or len(miners))


def in_order(outcomes: list[tuple[int, bool]]) -> list[tuple[int, bool]]:
    at, found = 0, []
    for gap, success in outcomes:
        at += gap
        found.append((at, success))
    return found


def test_failures_in_a_row_eject_however_quickly_they_come() -> None:
    standing = e.TRUSTED
    for n in range(e.FAILURES):
        assert not standing.is_out(n)
        standing = e.after(standing, n, success=False)
    assert standing.is_out(e.FAILURES)
    assert standing.until_ms == e.FAILURES - 1 + e.BASE_MS
    assert not standing.is_out(standing.until_ms)


def test_success_between_failures_keeps_one_in() -> None:
    several = [(n, n % e.FAILURES == 0) for n in range(50)]
    assert e.standing_of(several).until_ms is None


def test_each_ejection_is_twice_as_long_up_to_the_longest_and_one_failure_is_enough() -> None:
    at, lasted = 0, []
    standing = e.standing_of([(0, False)] * e.FAILURES)
    for _ in range(8):
        assert standing.until_ms is not None
        lasted.append(standing.until_ms - at)
        at = standing.until_ms
        standing = e.after(standing, at, success=False)
    assert lasted == [min(e.LONGEST_MS, e.BASE_MS << n) for n in range(8)]


def test_outcomes_of_work_from_before_an_ejection_change_nothing() -> None:
    standing = e.standing_of([(0, False)] * e.FAILURES)
    assert e.after(standing, e.BASE_MS - 1, success=False) == standing
    assert e.after(standing, e.BASE_MS - 1, success=True) == standing


def test_ejection_is_taken_off_by_a_success_after_the_warm_up_only() -> None:
    standing = e.standing_of([(0, False)] * e.FAILURES)
    back = standing.until_ms or 0
    assert e.after(standing, back, success=True).ejections == 1
    assert e.after(standing, back + e.WARM_MS, success=True).ejections == 0


@given(_outcomes)
def test_any_outcomes_a_failure_more_ejects_for_no_shorter(
    outcomes: list[tuple[int, bool]],
) -> None:
    known = in_order(outcomes)
    standing = e.standing_of(known)
    at = known[-1][0] + 1 if known else 0
    good, bad = (e.after(standing, at, success) for success in (True, False))
    assert (bad.until_ms or 0) >= (good.until_ms or 0)
    assert bad.failures + bad.ejections >= good.failures + good.ejections
    for now in range(at, at + 2 * e.LONGEST_MS, e.LONGEST_MS // 7):
        assert bad.warm_ppm(now) <= good.warm_ppm(now)
        assert 0 < bad.warm_ppm(now) <= e.PPM


def test_warm_up_rises_to_all_from_little() -> None:
    standing = e.standing_of([(0, False)] * e.FAILURES)
    back = standing.until_ms or 0
    shares = [standing.warm_ppm(back + n) for n in range(0, e.WARM_MS + 1, 1000)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (e.COLDEST_PPM, e.PPM)
    assert e.TRUSTED.warm_ppm(0) == e.PPM


@given(st.integers(0, 400), st.integers(0, 400))
def test_any_count_at_most_a_tenth_or_one_is_out(out: int, others: int) -> None:
    standings = {f"m{n:03}": e.Standing(0, 1 + n % 3, 10) for n in range(out)}
    found = e.out_now(standings, 0, out + others)
    assert len(found) == min(out, e.most_out(out + others))
    assert len(found) <= max(1, (out + others) // 10)
    assert found <= standings.keys()
    if found:
        least = min(standings[key].ejections for key in found)
        assert all(s.ejections <= least for key, s in standings.items() if key not in found)


def test_miner_that_fails_at_once_gets_nothing_until_it_is_back_and_then_little() -> None:
    bad = miner("bad", max_concurrent=20, recent=failed(0.1, 0.2, 0.3))
    good = miner("good", max_concurrent=20)
    busy = {"good": 19}
    trust = trusted(bad, good)
    assert trust.ejected == {"bad"}
    assert excluded(task(), bad, 0, 0, trust) is Excluded.EJECTED
    for n in range(30):  # it is idle, and the other one nearly full
        assert choose_miner(task(f"t{n}"), [bad, good], busy, {}, trust) == good
    back = trusted(bad, good, after_s=0.3 + e.BASE_MS / 1000)
    assert back.ejected == frozenset()
    assert back.room(bad) == 2  # of 20
    assert excluded(task(), bad, 2, 0, back) is Excluded.FULL
    warm = trusted(bad, good, after_s=1 + (e.BASE_MS + e.WARM_MS) / 1000)
    assert warm.room(bad) == 20


def test_who_fails_now_and_then_gets_its_share_of_the_load() -> None:
    half = miner("half", recent=(*failed(1, 2), *failed(*range(3, 7), outcome="accepted")))
    good = miner("good")
    trust = trusted(half, good)
    assert trust.ejected == frozenset()
    assert trust.weight_ppm("good") == e.PPM
    assert trust.weight_ppm("half") == e.PPM * 5 // 7
    assert choose_miner(task(), [half, good], {"half": 1, "good": 1}, {}, trust) == good
    assert choose_miner(task(), [half, good], {"good": 2, "half": 1}, {}, trust) == half


def test_of_two_that_are_alike_the_one_that_can_do_less_else_is_chosen() -> None:
    narrow = miner("a", specialties=("inference",), reputation_ppm=1)
    broad = miner("b", specialties=("inference", "training"), reputation_ppm=2)
    for n in range(20):
        assert choose_miner(task(f"t{n}"), [narrow, broad], {}, {}) == narrow


def test_who_alone_could_take_it_is_not_ejected_from_it() -> None:
    only = miner("only", gpus=8, recent=failed(0.1, 0.2, 0.3))
    other = miner("other", gpus=1)
    trust = trusted(only, other)
    assert trust.ejected == {"only"}
    large, small = task(gpus=8), task(gpus=1)
    assert trust_for(small, [only, other], trust) is trust
    opened = trust_for(large, [only, other], trust)
    assert choose_miner(large, [only, other], {}, {}, opened) == only
    assert field_of(large, [only, other], {}, {}, trust).fresh == ("only",)
    assert field_of(small, [only, other], {}, {}, trust).excluded == {"ejected": ("only",)}


def test_when_all_fail_nine_of_ten_go_on() -> None:
    miners = [miner(f"m{n:02}", recent=failed(0.1, 0.2, 0.3)) for n in range(40)]
    trust = trusted(*miners)
    assert len(trust.ejected) == 4
    chosen = [choose_miner(task(f"t{n}"), miners, {}, {}, trust) for n in range(200)]
    assert None not in chosen
    assert trust.ejected.isdisjoint(m.key for m in chosen if m)


def test_miner_whose_failures_have_left_its_record_is_trusted_again() -> None:
    outliers = Outliers()
    outliers.observe(miner("m", recent=failed(0.1, 0.2, 0.3)))
    outliers.observe(miner("m", recent=failed(*range(32), outcome="accepted")))
    trust = outliers.at(NOW, 1)
    assert (trust.ejected, trust.weight_ppm("m")) == (frozenset(), e.PPM)


def test_whoever_observes_only_the_last_state_ejects_the_same() -> None:
    follower, successor = Outliers(), Outliers()
    for count in range(1, 4):
        follower.observe(miner("m", recent=failed(*range(count))))
    successor.observe(miner("m", recent=failed(0, 1, 2)))
    at = NOW + timedelta(seconds=5)
    assert follower.at(at, 5) == successor.at(at, 5)
    assert follower.at(at, 5).ejected == {"m"}


@pytest.mark.parametrize("size", [0, 1])
def test_nobody_or_one_is_no_reason_to_stop(size: int) -> None:
    miners = [miner(f"m{n}", recent=failed(0.1, 0.2, 0.3)) for n in range(size)]
    trust = trusted(*miners)
    chosen = choose_miner(task(), miners, {}, {}, trust_for(task(), miners, trust))
    assert chosen == (miners[0] if miners else None)
