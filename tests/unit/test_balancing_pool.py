"""A pool chooses whoever there is, two at a time, home first, and passes over those that fail."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.balancing import pool as p
from everlode.balancing.ejection import BASE_MS, FAILURES, WARM_MS, most_out
from everlode.errors import ContractError, NotFound
from everlode.sdk import Balancer, Member

_members = st.lists(
    st.builds(
        Member,
        st.sampled_from("abcdefghij"),
        st.sampled_from(["eu", "us", "ap"]),
        st.integers(1, 5),
        st.integers(0, 9),
        st.floats(0, 1),
        st.frozensets(st.sampled_from(["inference", "training"])),
    ),
    max_size=12,
)


def fail(pool: p.Pool, key: str, at_ms: int = 0, times: int = FAILURES) -> None:
    for _ in range(times):
        pool.ended(key, at_ms, success=False)


def chosen(pool: p.Pool, count: int, at_ms: int = 0) -> Counter[str]:
    """How often each is chosen, when all work ends at once."""
    found = Counter[str]()
    for _ in range(count):
        key = pool.choose(at_ms)
        assert key is not None
        found[key] += 1
        pool.ended(key, at_ms, success=True)
    return found


@given(_members, st.sampled_from(["", "inference"]), st.lists(st.sampled_from("abcdefghij")))
def test_any_members_one_is_chosen_whenever_one_does_the_work(
    members: list[Member], specialty: str, failing: list[str]
) -> None:
    pool = p.Pool(members, home="eu")
    for key in failing:
        fail(pool, key)
    able = {
        m.key
        for m in {m.key: m for m in members}.values()
        if not specialty or not m.specialties or specialty in m.specialties
    }
    for now in (0, 1, BASE_MS, 10 * WARM_MS):
        found = pool.choose(now, specialty)
        assert (found in able) if able else found is None
    assert len(pool.ejected) <= most_out(len(pool))


@given(_members, st.lists(st.tuples(st.sampled_from("abcdefghij"), st.booleans()), max_size=60))
def test_any_calls_the_same_seed_gives_the_same(
    members: list[Member], outcomes: list[tuple[str, bool]]
) -> None:
    def run(seed: int) -> list[str | None]:
        pool, found = p.Pool(members, home="eu", seed=seed), []
        for now, (key, success) in enumerate(outcomes):
            pool.ended(key, now * 1000, success)
            if not success:
                pool.drop("a")
            found.append(pool.choose(now * 1000))
        return found

    assert run(7) == run(7)


def test_ejected_one_is_passed_over_and_comes_back_little_by_little() -> None:
    pool = p.Pool([Member(f"m{n}", capacity=10) for n in range(10)])
    fail(pool, "m0")
    assert pool.ejected == {"m0"}
    assert chosen(pool, 500)["m0"] == 0
    early = chosen(pool, 2000, BASE_MS)["m0"]
    assert pool.ejected == frozenset()
    late = chosen(pool, 2000, BASE_MS + 2 * WARM_MS)["m0"]
    assert early < late / 4
    assert late > 100


def test_it_fails_again_while_it_warms_up_and_is_out_for_twice_as_long() -> None:
    pool = p.Pool([Member(f"m{n}") for n in range(10)])
    fail(pool, "m0")
    chosen(pool, 1, BASE_MS)
    fail(pool, "m0", BASE_MS, times=1)
    assert pool.ejected == {"m0"}
    assert chosen(pool, 300, 3 * BASE_MS - 1)["m0"] == 0
    chosen(pool, 1, 3 * BASE_MS)
    assert pool.ejected == frozenset()


@pytest.mark.parametrize("count", [1, 2, 5, 10, 19, 40])
def test_when_all_fail_a_tenth_is_ejected_or_one_and_the_others_go_on(count: int) -> None:
    pool = p.Pool(Member(f"m{n}") for n in range(count))
    for n in range(count):
        fail(pool, f"m{n}")
    assert len(pool.ejected) == max(1, count // 10)
    assert pool.choose(0) is not None


def test_one_that_left_and_came_back_begins_anew() -> None:
    pool = p.Pool([Member("a"), Member("b")])
    fail(pool, "a")
    pool.drop("a")
    pool.drop("a")
    assert (pool.ejected, len(pool)) == (frozenset(), 1)
    pool.put(Member("a"))
    assert chosen(pool, 100)["a"] > 0


def test_home_comes_first_and_spills_by_the_health_that_it_lacks() -> None:
    def at_home(health: float) -> float:
        members = [Member(f"{place}{n}", place) for place in ("eu", "us") for n in range(5)]
        pool = p.Pool(members, home="eu")
        for member in members:
            if member.place == "eu":
                pool.put(member._replace(health=health))
        found = chosen(pool, 2000)
        return sum(n for key, n in found.items() if key.startswith("eu")) / 2000

    shares = [at_home(health) for health in (1.0, 0.72, 0.5, 0.25, 0.0)]
    assert shares[:2] == [1.0, 1.0]
    assert shares == sorted(shares, reverse=True)
    assert shares[2] == pytest.approx(0.7, abs=0.05)
    assert shares[4] == 0.0


def test_where_nobody_is_well_somebody_is_chosen() -> None:
    pool = p.Pool([Member("a", "eu", health=0.0), Member("b", "us", health=0.0)], home="eu")
    assert pool.choose(0) in ("a", "b")


def test_less_well_or_smaller_ones_get_less() -> None:
    pool = p.Pool(
        [Member("well", capacity=10), Member("ill", capacity=10, health=0.5),
         Member("small", capacity=2)]
    )  # fmt: skip
    given = Counter(pool.choose(0) for _ in range(1500))  # nothing ends
    assert given["well"] > 1.5 * given["ill"] > 1.5 * given["small"]


def test_load_that_was_seen_counts_beside_what_was_given_since() -> None:
    pool = p.Pool([Member("a"), Member("b")])
    for _ in range(40):
        pool.choose(1000)
    pool.put(Member("a", load=0), 900)  # from before
    pool.put(Member("b", load=0), 900)
    after = Counter(pool.choose(1000) for _ in range(10))
    assert abs(after["a"] - after["b"]) <= 2
    pool.put(Member("a", load=25), 2000)
    pool.put(Member("b", load=0), 2000)
    assert Counter(pool.choose(2000) for _ in range(12))["b"] >= 8


def test_what_was_given_is_forgotten_once_it_has_ended_or_is_in_what_was_seen() -> None:
    for forget in ("ended", "seen"):
        pool = p.Pool([Member("a")])
        for _ in range(40):
            assert pool.choose(1000) == "a"
        if forget == "ended":
            for _ in range(40):
                pool.ended("a", 1000, success=True)
        else:
            pool.put(Member("a"), 2000)
        pool.put(Member("b"))
        given = Counter(pool.choose(2000) for _ in range(20))
        assert abs(given["a"] - given["b"]) <= 2


def test_home_whose_ejected_member_is_back_keeps_its_work_again() -> None:
    pool = p.Pool([Member("a", "eu"), Member("b", "eu"), Member("c", "us")], home="eu")
    fail(pool, "a")
    assert chosen(pool, 500)["c"] > 50
    assert chosen(pool, 500, BASE_MS)["c"] == 0


@pytest.mark.parametrize(
    "spoilt", [{"capacity": 0}, {"load": -1}, {"health": 1.1}, {"health": float("nan")}]
)
def test_member_that_cannot_be_is_refused_and_changes_nothing(spoilt: dict[str, Any]) -> None:
    pool = p.Pool([Member("a")])
    with pytest.raises(ContractError, match="'b'"):
        pool.put(Member("b")._replace(**spoilt))
    assert len(pool) == 1
    assert pool.choose(0) == "a"


class Costs(p.Pool):
    """Counts what a choice looks at."""

    looks = 0

    def _cost(self, key: str, now_ms: int) -> float:
        self.looks += 1
        return super()._cost(key, now_ms)

    def _draw(self, size: int) -> int:
        self.looks += 1
        return super()._draw(size)


def test_choice_among_100000_costs_no_more_than_among_1000() -> None:
    looks = []
    for size in (1_000, 100_000):
        pool = Costs((Member(f"m{n}", "eu") for n in range(size)), home="eu")
        for n in range(0, size, 20):
            fail(pool, f"m{n}")
        pool.looks = 0
        for _ in range(300):
            pool.choose(1)
        looks.append(pool.looks / 300)
    assert looks[1] <= 1.2 * looks[0]
    assert looks[1] <= 8


def test_balancer_counts_a_block_that_raises_as_a_failure_of_its_member() -> None:
    balancer = Balancer([Member("bad"), Member("good")])
    for _ in range(200):
        with suppress(OSError), balancer.work() as key:
            if key == "bad":
                raise OSError("refused")
    assert balancer.ejected == {"bad"}
    assert balancer.choose() == "good"


def test_balancer_without_a_member_that_does_the_work_says_so() -> None:
    balancer = Balancer([Member("a", specialties=frozenset({"inference"}))])
    with pytest.raises(NotFound, match="'training'"):
        balancer.choose("training")
    balancer.put(Member("b"), age_s=1.0)
    assert balancer.choose("training") == "b"
    balancer.drop("b")
    balancer.drop("a")
    with pytest.raises(NotFound):
        balancer.choose()
