"""A batch of which some records cannot be applied: found, and only they are left out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.errors import ContractError, Unavailable
from everlode.projection.halves import first_refused, in_halves


class Store:
    """Takes numbers, in order, but for the bad ones."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.taken: list[int] = []
        self.refused: list[int] = []
        self.calls = 0

    def apply(self, items: Sequence[int]) -> int:
        self.calls += 1
        if self.bad & set(items):
            raise ContractError("not this one")
        self.taken += items
        return len(items)

    def refuse(self, items: Sequence[int], _: ContractError) -> int:
        self.refused += items
        return 0


@given(st.integers(0, 200), st.sets(st.integers(0, 199), max_size=20))
def test_all_but_the_bad_ones_are_applied_in_order(count: int, bad: set[int]) -> None:
    store = Store(bad)
    given_back = list(in_halves(range(count), store.apply, store.refuse))
    assert store.taken == [n for n in range(count) if n not in bad]
    assert store.refused == sorted(n for n in bad if n < count)
    assert sum(given_back) == len(store.taken)


def test_one_bad_record_of_many_costs_few_calls() -> None:
    store = Store({777})
    list(in_halves(range(1024), store.apply, store.refuse))
    assert store.calls == 1 + 2 * 10


def test_batch_without_a_bad_record_is_one_call() -> None:
    store = Store(set())
    assert list(in_halves(range(1024), store.apply, store.refuse)) == [1024]
    assert store.calls == 1


def test_empty_batch_that_is_refused_is_refused_as_such() -> None:
    asked: list[Sequence[int]] = []

    def apply(_: Sequence[int]) -> None:
        raise ContractError("what waits cannot be applied")

    list(in_halves([], apply, lambda items, _: asked.append(items)))
    assert asked == [[]]


def test_store_that_does_not_answer_blames_no_record() -> None:
    store = Store({3})

    def apply(items: Sequence[int]) -> int:
        if 5 in items:
            raise Unavailable("gone")
        return store.apply(items)

    with pytest.raises(Unavailable):
        list(in_halves(range(8), apply, store.refuse))
    assert (store.taken, store.refused) == ([], [])


@given(st.integers(1, 300), st.data())
def test_first_refused_is_the_one_from_which_on_no_prefix_applies(
    most: int, data: st.DataObject
) -> None:
    bad = data.draw(st.integers(1, most))
    tried: list[int] = []

    def applies(count: int) -> bool:
        tried.append(count)
        return count < bad

    assert first_refused(most, applies) == bad
    assert len(tried) <= most.bit_length()
