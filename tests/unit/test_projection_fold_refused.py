"""A fact that folds and that no store takes: its key waits with it, in order, for good."""

from __future__ import annotations

import pytest

from everlode.projection import fold
from everlode.projection.fold import Incoming, Outcome
from everlode.state.dispatch import evolve_fact
from tests.support.world.projecting import COMPONENTS, Folding, fact, incoming

AT = 1
"""Offset of the fact that is refused: the key's second."""


def history(component: str, count: int = 4) -> list[Incoming]:
    """One key's facts, at offsets from 0 on."""
    return [incoming(component, n, fact(component, "a", n + 1, n + 1)) for n in range(count)]


def refusing(component: str, offset: int = AT) -> Folding:
    made = Folding()
    made.fold.refused.add((f"eu.1.{component}", offset))
    return made


def versions(items: list[Incoming]) -> list[int]:
    return [item.fact.envelope.version for item in items]


def kinds(out: Outcome) -> list[str]:
    return [problem.kind for problem in out.problems]


@pytest.mark.parametrize("component", COMPONENTS)
def test_refused_fact_and_all_behind_it_wait_and_other_keys_go_on(component: str) -> None:
    folding = refusing(component)
    other = incoming(component, 4, fact(component, "b", 1, 5))
    out = folding.take(*history(component), other)
    assert folding.known[component, "a"].version == 1
    assert folding.known[component, "b"].version == 1
    assert versions(out.parked) == [2, 3, 4]
    assert versions(out.steps) == [1, 1]
    assert out.problems == []  # whoever refused it says so
    assert folding.fold.positions[f"eu.1.{component}"].seq == 5  # nothing waits for it


def test_refused_fact_that_comes_again_is_a_repeat() -> None:
    folding = refusing("miners")
    first, again = folding.take(*history("miners")), folding.take(*history("miners"))
    assert len(first.parked) == 3
    assert (again.parked, again.repeats, again.problems) == ([], 4, [])


def test_who_takes_over_leaves_it_where_it_is_and_a_new_generation_goes_on() -> None:
    folding = refusing("tasks")
    parked = folding.take(*history("tasks")).parked
    heir = folding.again(parked)
    heir.fold.refused = set(folding.fold.refused)
    out = heir.take()
    assert (out.steps, out.released, out.problems) == ([], [], [])
    other = folding.again(parked)
    assert other.fold.releasable(None) == {("tasks", "a")}
    out = other.take()
    assert versions(out.steps) == versions(out.released) == [2, 3, 4]


def test_refused_fact_behind_a_gap_stops_what_the_gap_had_held() -> None:
    facts = history("miners")
    folding = refusing("miners", 2)
    folding.take(*facts[1:])
    out = folding.take(facts[0])
    assert versions(out.steps) == [1, 2]
    assert folding.known["miners", "a"].version == 2


def test_fact_found_bad_while_it_waits_behind_a_gap_stays_and_so_does_its_row() -> None:
    facts = history("miners")
    folding = Folding()
    folding.take(*facts[1:])
    folding.fold.refused.add(("eu.1.miners", 2))
    out = folding.take(facts[0])
    assert versions(out.released) == [2]  # 3 and 4 are still noted as waiting
    assert folding.known["miners", "a"].version == 2
    assert folding.take(incoming("miners", 4, fact("miners", "a", 5, 5))).steps == []


def test_other_fact_of_its_version_is_a_conflict_and_does_not_take_its_place() -> None:
    folding = refusing("miners")
    folding.take(*history("miners", 3))
    out = folding.take(incoming("miners", 3, fact("miners", "a", 2, 4, event_id="forged")))
    assert kinds(out) == ["conflict"]
    assert folding.known["miners", "a"].version == 1


def test_mistake_of_a_fold_stops_its_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def evolve(state: object, item: object, partition: int) -> object:
        if item.envelope.aggregate_id == "a":  # type: ignore[attr-defined]
            raise KeyError("nobody foresaw this")
        return evolve_fact(state, item, partition)  # type: ignore[arg-type]

    monkeypatch.setattr(fold, "evolve_fact", evolve)
    folding = Folding()
    other = incoming("miners", 9, fact("miners", "b", 1, 10))
    out = folding.take(*history("miners", 2), other)
    assert kinds(out)[0] == "unlawful"
    [(item, error)] = out.unlawful
    assert item.offset == 0
    assert "KeyError" in error.message
    assert folding.known["miners", "b"].version == 1


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    facts = history("miners")
    whole, parts = Folding(), Folding()
    at_once = whole.take(*facts[:1], *facts[2:])
    first = parts.take(facts[0])
    first.add(parts.take(*facts[2:]))
    assert first == at_once
