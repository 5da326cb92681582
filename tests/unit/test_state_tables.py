"""The transition tables tell the truth: what the folds do is in them, and nothing else is.

The tables are taken for a claim and the folds for the facts. Each step of a lawful history must
be a row, with its source and its target; each source of each row must be taken by some history;
and a false table must not pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.errors import IntegrityError
from everlode.events import commands as c
from everlode.events import tasks as te
from everlode.events.base import Event, Fact
from everlode.events.states import State, TaskState
from everlode.state.shape import (
    FINAL,
    Context,
    Decide,
    Evolve,
    Row,
    Table,
    Variants,
    deciding,
    folding,
    row_key,
    rule,
)
from tests.support.world.state_play import KEYS, MODULES, START, play

HISTORIES = 150
"""Seeds for each aggregate that must between them take every row from every source."""


class Step(NamedTuple):
    """One step of a history; the status None is "not there", before it and after a deletion."""

    event: Event
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Claim:
    """A table and its variants, as an aggregate has them or as a test has spoilt them."""

    table: Table
    variants: Variants

    def without(self, key: tuple[type[Event], str]) -> Claim:
        return Claim({k: row for k, row in self.table.items() if k != key}, self.variants)

    def having(self, key: tuple[type[Event], str], row: Row) -> Claim:
        return Claim({**self.table, key: row}, self.variants)


def claim_of(component: str) -> Claim:
    module = MODULES[component]
    return Claim(module.TRANSITIONS, getattr(module, "VARIANTS", {}))


def steps(component: str, facts: Iterable[Fact]) -> Iterator[tuple[Fact, State | None, Step]]:
    """Each fact, the state that it finds, and its step: folded again by `evolve` alone."""
    states: dict[str, State | None] = {}
    for fact in facts:
        key = fact.envelope.aggregate_id
        before = states.get(key)
        after = states[key] = MODULES[component].evolve(before, fact, 0)
        yield fact, before, Step(fact.data, before and before.status, after and after.status)


def history(component: str, seed: int, length: int) -> list[Fact]:
    return [fact for _, fact in play(seed, length, component).log]


@cache
def many_steps(component: str) -> tuple[tuple[Fact, State | None, Step], ...]:
    return tuple(
        step for n in range(HISTORIES) for step in steps(component, history(component, n, 60))
    )


def sample(component: str) -> list[Step]:
    return [step for _, _, step in many_steps(component)]


def contradictions(claim: Claim, taken: Iterable[Step]) -> Iterator[str]:
    """Steps that are not in the table."""
    for event, before, after in taken:
        key = row_key(event, before, claim.variants)
        row = claim.table.get(key)
        name = f"{key[0].__name__} {key[1]}"
        if row is None:
            yield f"{name}: no row"
        elif before not in row.sources:
            yield f"{name}: not from {before}"
        elif (after or "deleted") != (row.target or before):
            yield f"{name}: from {before} to {after}, not to {row.target}"


def untaken(claim: Claim, steps_taken: Iterable[Step]) -> set[str]:
    """Rows, and sources of rows, that no step takes."""
    taken = {(row_key(event, before, claim.variants), before) for event, before, _ in steps_taken}
    return {
        f"{key[0].__name__} {key[1]} from {source}"
        for key, row in claim.table.items()
        for source in row.sources or {"nowhere"}
        if (key, source) not in taken
    }


def statuses(table: Table) -> set[str]:
    found = {row.target for row in table.values()} | {s for r in table.values() for s in r.sources}
    return {status for status in found if status}


@pytest.mark.parametrize("component", sorted(KEYS))
@given(st.integers(0, 2**32 - 1), st.integers(0, 120))
def test_every_step_of_a_fold_is_a_row_of_the_table(component: str, seed: int, length: int) -> None:
    taken = [step for _, _, step in steps(component, history(component, seed, length))]
    assert list(contradictions(claim_of(component), taken)) == []


@pytest.mark.parametrize("component", sorted(KEYS))
def test_every_row_is_taken_from_each_of_its_sources(component: str) -> None:
    assert untaken(claim_of(component), sample(component)) == set()


@pytest.mark.parametrize("component", sorted(KEYS))
def test_table_with_another_target_contradicts_the_fold(component: str) -> None:
    claim = claim_of(component)
    for key, row in claim.table.items():
        leads = {row.target or source for source in row.sources}
        for wrong in (statuses(claim.table) | {"nonsense"}) - leads:
            planted = claim.having(key, row._replace(target=wrong))
            assert any(contradictions(planted, sample(component))), (key, wrong)


@pytest.mark.parametrize("component", sorted(KEYS))
def test_table_without_a_source_contradicts_the_fold(component: str) -> None:
    claim = claim_of(component)
    for key, row in claim.table.items():
        assert any(contradictions(claim.without(key), sample(component))), key
        for source in row.sources:
            planted = claim.having(key, row._replace(sources=row.sources - {source}))
            assert any(contradictions(planted, sample(component))), (key, source)


@pytest.mark.parametrize("component", sorted(KEYS))
def test_table_with_a_source_or_row_too_many_has_one_that_is_not_taken(component: str) -> None:
    claim = claim_of(component)
    everything: set[str | None] = {None, *statuses(claim.table)}
    for key, row in claim.table.items():
        for source in everything - row.sources:
            planted = claim.having(key, row._replace(sources=row.sources | {source}))
            assert untaken(planted, sample(component)), (key, source)
        assert untaken(claim.having((key[0], "never"), row), sample(component)), key


@pytest.mark.parametrize("component", sorted(KEYS))
def test_fold_takes_the_status_from_its_row_and_from_nowhere_else(component: str) -> None:
    """Where a row leads to an odd status, the fold that is made of it goes there."""
    claim = claim_of(component)
    rows = {key: row._replace(target="odd") for key, row in claim.table.items()}
    evolve: Evolve[Any] = folding(MODULES[component].FOLDS, rows, claim.variants)
    for fact, before, step in many_steps(component):
        after = evolve(before, fact, 0)
        assert (after.status if after else None) == ("odd" if step.after else None)


def test_decision_that_no_row_allows_is_an_integrity_error() -> None:
    failed = te.TaskAttemptFailed(attempt=1, miner_id="m1", reason="r", final=True)
    claim = claim_of("tasks").without((te.TaskAttemptFailed, FINAL))
    spoilt = claim.having((te.TaskAttemptFailed, FINAL), rule(["solved"], "failed"))
    found = (s for _, s, _ in many_steps("tasks") if isinstance(s, TaskState))
    state = next(s for s in found if s.status == "assigned")
    ctx = Context(state.key, "eu", START)
    command = c.ReportFailure(miner_id="m1", attempt=1, reason="r", permanent=True)

    def decision(claim: Claim) -> tuple[Event, ...]:
        decide: Decide[TaskState] = deciding(claim.table, lambda *_: (failed,), claim.variants)
        return decide(command, state, ctx)

    assert decision(claim_of("tasks")) == (failed,)
    with pytest.raises(IntegrityError) as caught:
        decision(spoilt)
    assert caught.value.code == "transition"
