"""Who gets the work: only who fits, the less loaded of two, and always the same answer."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.balancing.assign import Excluded, choose_manager, choose_miner, excluded, field_of
from everlode.events.states import MinerState, TaskState
from everlode.state.dispatch import evolve_fact
from tests.support.world.projecting import fact


@cache
def _miner() -> MinerState:
    state = evolve_fact(None, fact("miners", "m", 1, 1), 0)
    assert isinstance(state, MinerState)
    return state


@cache
def _task() -> TaskState:
    state = evolve_fact(None, fact("tasks", "t", 1, 1), 0)
    assert isinstance(state, TaskState)
    return state


def miner(key: str, **changes: object) -> MinerState:
    given: dict[str, Any] = {"max_concurrent": 4, "stake_free_micro": 10**9, **changes}
    return _miner()._replace(key=key, **given)


def task(key: str = "t", **changes: object) -> TaskState:
    return _task()._replace(key=key, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "running", "why"),
    [
        ({"status": "suspended"}, 0, Excluded.SUSPENDED),
        ({"status": "retired"}, 4, Excluded.RETIRED),
        ({"specialties": ("training",)}, 0, Excluded.TYPE),
        ({"gpus": 1}, 4, Excluded.GPUS),
        ({}, 4, Excluded.FULL),
        ({"stake_free_micro": 1}, 0, Excluded.STAKE),
    ],
)
def test_miner_that_does_not_fit_gets_nothing(
    changes: dict[str, object], running: int, why: Excluded
) -> None:
    wanted = task(gpus=2)
    assert excluded(wanted, miner("a", gpus=2), 3, 0) is None
    other = miner("a", **{"gpus": 2, **changes})
    assert excluded(wanted, other, running, 0) is why
    assert choose_miner(wanted, [other], {"a": running}, {}) is None


def test_miner_gets_only_what_its_free_stake_covers() -> None:
    wanted = task(base_reward_micro=1_000_000)  # locks 200000
    pair = [miner("a", stake_free_micro=199_999), miner("b", stake_free_micro=400_000)]
    assert choose_miner(wanted, pair, {}, {}) == pair[1]
    assert choose_miner(wanted, pair, {}, {"b": 200_000}) == pair[1]
    assert choose_miner(wanted, pair, {}, {"b": 200_001}) is None
    free = task(base_reward_micro=0)
    assert excluded(free, miner("a", stake_free_micro=0), 0, 5) is None


_miners = st.lists(
    st.builds(
        lambda status, kind, gpus, reputation: {
            "status": status,
            "specialties": (kind,),
            "gpus": gpus,
            "reputation_ppm": reputation,
        },
        st.sampled_from(["active", "active", "suspended"]),
        st.sampled_from(["inference", "inference", "training"]),
        st.integers(0, 2),
        st.integers(0, 1_000_000),
    ),
    max_size=20,
)


@given(_miners, st.lists(st.integers(0, 4), min_size=20, max_size=20), st.text("xyz", max_size=5))
def test_any_field_a_miner_is_chosen_when_one_fits_and_it_fits(
    field: list[dict[str, object]], loads: list[int], name: str
) -> None:
    miners = [miner(f"m{i}", **changes) for i, changes in enumerate(field)]
    running = {m.key: loads[i] for i, m in enumerate(miners)}
    wanted = task(f"t{name}", gpus=1)
    chosen = choose_miner(wanted, miners, running, {})
    able = [m for m in miners if excluded(wanted, m, running[m.key], 0) is None]
    assert (chosen in able) if able else chosen is None
    assert choose_miner(wanted, miners, running, {}) == chosen


@given(
    _miners,
    st.lists(st.integers(0, 4), min_size=20, max_size=20),
    st.sets(st.integers(0, 19), max_size=4),
)
def test_any_field_what_is_explained_is_what_is_chosen(
    field: list[dict[str, object]], loads: list[int], had: set[int]
) -> None:
    miners = [miner(f"m{i}", **changes) for i, changes in enumerate(field)]
    running = {m.key: loads[i] for i, m in enumerate(miners)}
    wanted = task(gpus=1, miners=tuple(f"m{i}" for i in sorted(had)), attempt=len(had))
    found = field_of(wanted, miners, running, {})
    names = [*found.fresh, *found.again, *(m for many in found.excluded.values() for m in many)]
    assert sorted(names) == sorted(m.key for m in miners)
    chosen = choose_miner(wanted, miners, running, {})
    assert (chosen is None) == (not found.fresh and not found.again)
    if chosen is not None:
        assert chosen.key in (found.fresh or found.again)


def test_of_two_the_less_loaded_then_the_better_known_is_chosen() -> None:
    pair = [miner("a", reputation_ppm=1), miner("b", reputation_ppm=2)]
    for n in range(50):
        wanted = task(f"t{n}")
        assert choose_miner(wanted, pair, {"b": 1}, {}) == pair[0]
        assert choose_miner(wanted, pair, {"a": 1, "b": 1}, {}) == pair[1]


def test_load_is_a_share_of_what_a_miner_can_take() -> None:
    small, large = miner("a", reputation_ppm=9), miner("b", reputation_ppm=1)
    large = large._replace(max_concurrent=100)
    assert choose_miner(task(), [small, large], {"a": 1, "b": 20}, {}) == large


def test_many_tasks_are_spread_evenly_by_two_choices() -> None:
    miners = [miner(f"m{i}")._replace(max_concurrent=1000) for i in range(20)]
    running: Counter[str] = Counter()
    for n in range(2000):
        chosen = choose_miner(task(f"t{n}"), miners, running, {})
        assert chosen is not None
        running[chosen.key] += 1
    assert max(running.values()) - min(running.values()) <= 10  # by one choice it is about 40


def test_miner_that_had_the_task_comes_after_all_who_had_not() -> None:
    miners = [miner(f"m{i}", reputation_ppm=1_000_000 - i) for i in range(30)]
    busy = {m.key: 3 for m in miners if m.key != "m0"}  # m0 fails at once, so it is always idle
    for n in range(50):
        chosen = choose_miner(task(f"t{n}", attempt=1, miners=("m0",)), miners, busy, {})
        assert chosen is not None
        assert chosen.key != "m0"
    free = dict.fromkeys((m.key for m in miners), 4) | {"m0": 0}
    assert choose_miner(task(attempt=1, miners=("m0",)), miners, free, {}) == miners[0]


def test_miners_that_had_the_task_have_it_again_in_turn() -> None:
    pair = [miner("a"), miner("b", reputation_ppm=1)]
    tries = [task(attempt=n, miners=("a", "b")) for n in (2, 3, 4)]
    assert [choose_miner(t, pair, {}, {}) for t in tries] == [pair[0], pair[1], pair[0]]


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(0, 5)), st.text("xyz"))
def test_any_loads_the_manager_has_room(loads: dict[str, int], seed: str) -> None:
    chosen = choose_manager(seed, loads, 5)
    free = {node for node, load in loads.items() if load < 5}
    assert (chosen in free) if free else chosen is None
    assert choose_manager(seed, dict(reversed(loads.items())), 5) == chosen
