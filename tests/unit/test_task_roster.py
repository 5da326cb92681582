"""The lists are those of a count of all miners, and a choice costs alike among few and many."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.balancing.assign import choose_miner
from everlode.events.states import MinerState
from everlode.tasks.roster import Roster
from tests.unit.test_balancing import miner, task

TYPES = ("inference", "training")
_changes = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.one_of(
            st.sampled_from([-1, 1]),
            st.builds(
                lambda status, types, gpus, most: {
                    "status": status, "specialties": tuple(sorted(types)), "gpus": gpus,
                    "max_concurrent": most,
                },
                st.sampled_from(["active", "active", "suspended", "retired"]),
                st.sets(st.sampled_from(TYPES), min_size=1),
                st.integers(0, 3),
                st.integers(1, 3),
            ),
        ),
    ),
    max_size=60,
)  # fmt: skip


@given(_changes)
def test_any_changes_the_lists_are_those_of_all_miners(changes: list[tuple[str, Any]]) -> None:
    running, miners = Counter[str](), dict[str, MinerState]()
    roster = Roster(running)
    for key, change in changes:
        if isinstance(change, int):
            running[key] = max(0, running[key] + change)
            roster.moved(key)
        else:
            miners[key] = miner(key, **change)
            roster.put(miners[key])
    active = {k: m for k, m in miners.items() if m.status == "active"}
    assert len(roster) == len(active)
    for name in TYPES:
        able = {k: m for k, m in active.items() if name in m.specialties}
        roomy = {k: m for k, m in able.items() if running[k] < m.max_concurrent}
        for listed, wanted in ((roster.of(name), able), (roster.open(name), roomy)):
            assert sorted(m.key for m in listed) == sorted(wanted)
            assert {m.key: m for m in listed} == wanted
        assert roster.most_gpus(name) == max((m.gpus for m in able.values()), default=-1)


class Looked(Counter[str]):
    """Counts how often a choice looks at what a miner works on."""

    looks = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.looks += 1
        return super().get(key, default)


CHOICES = 300


def looks(size: int, full: float) -> float:
    """Looks at a miner for one choice, where such a share of so many miners is full."""
    running = Counter[str]()
    roster = Roster(running)
    for n in range(size):
        key = f"m{n}"
        if n % 100 < full * 100:
            running[key] = 4
        roster.put(miner(key))
    counted = Looked(running)
    candidates = roster.open("inference")
    for n in range(CHOICES):
        assert choose_miner(task(f"t{n}"), candidates, counted, {}) is not None
    return counted.looks / CHOICES


@pytest.mark.parametrize("full", [0.0, 0.5, 0.99])
def test_choice_among_100000_miners_costs_no_more_than_among_1000(full: float) -> None:
    few, many = looks(1_000, full), looks(100_000, full)
    assert many <= 1.2 * few
    assert many <= 6
