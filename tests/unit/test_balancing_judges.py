"""Who judges first is the same for all, shared by health, and only a lost one's share moves."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.balancing.judges import first_judges

KEYS = [f"eu/v{n}" for n in range(3000)]


@given(st.text(max_size=9), st.dictionaries(st.text("abcd", min_size=1), st.floats(0, 1)))
def test_any_judges_the_order_is_one_and_the_same_for_all(
    key: str, health: dict[str, float]
) -> None:
    found = first_judges(key, health, len(health))
    assert sorted(found) == sorted(health)
    assert first_judges(key, dict(reversed(health.items())), len(health)) == found
    assert first_judges(key, health, 1) == found[:1]


def test_shares_are_by_health_and_one_of_none_comes_last() -> None:
    health = {"a": 1.0, "b": 0.5, "c": 0.0}
    shares = Counter(first_judges(key, health, 1)[0] for key in KEYS)
    assert shares["a"] / len(KEYS) == pytest.approx(2 / 3, abs=0.04)
    assert shares["c"] == 0
    assert {first_judges(key, health, 3)[2] for key in KEYS} == {"c"}


def test_when_one_leaves_only_its_share_moves() -> None:
    before = {key: first_judges(key, dict.fromkeys("abcd", 1.0), 1) for key in KEYS}
    after = {key: first_judges(key, dict.fromkeys("abc", 1.0), 1) for key in KEYS}
    moved = {key for key in KEYS if before[key] != after[key]}
    assert moved == {key for key in KEYS if before[key] == ("d",)}
