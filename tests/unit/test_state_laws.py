"""Laws of the aggregates, over any sequence of commands to a small world of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.avro import codec
from everlode.errors import IntegrityError
from everlode.events import commands as c
from everlode.events import miners as me
from everlode.events import rewards as re
from everlode.events.base import Fact
from everlode.events.catalogue import EVENTS
from everlode.events.states import (
    MinerState,
    RewardState,
)
from everlode.state import dispatch, fraud, reward, validationfolds
from tests.support.world.state_play import BOOK, KEYS, MODULES, SCOPES, World, fold, play

SEEDS = st.integers(0, 2**32 - 1)
LENGTHS = st.integers(0, 120)


def test_play_reaches_every_event() -> None:
    """The laws below would say little about what is never reached."""
    seen: Counter[str] = Counter()
    for component in KEYS:
        for seed in range(60):
            world = play(seed, 60, component)
            seen.update(type(fact.data).__name__ for _, fact in world.log)
    wanted = {k.name for k in EVENTS.values() if k.topic in SCOPES}
    assert wanted - set(seen) == set()
    assert min(seen.values()) >= 10, seen


@pytest.mark.parametrize("component", sorted(KEYS))
@given(SEEDS, LENGTHS)
def test_any_sequence_of_commands_folds_and_keeps_the_invariants(
    component: str, seed: int, length: int
) -> None:
    world = play(seed, length, component)  # each step is checked
    assert fold(world.log) == world.states


@given(SEEDS, LENGTHS, st.randoms(use_true_random=False))
def test_order_of_different_keys_does_not_matter(seed: int, length: int, random: Any) -> None:
    world = play(seed, length)
    queues: dict[tuple[str, str], list[tuple[str, Fact]]] = {}
    for component, fact in world.log:
        queues.setdefault((component, fact.envelope.aggregate_id), []).append((component, fact))
    shuffled = []
    while queues:
        key = random.choice(sorted(queues))
        shuffled.append(queues[key].pop(0))
        if not queues[key]:
            del queues[key]
    assert fold(shuffled) == world.states


@given(SEEDS, LENGTHS)
def test_replay_through_the_wire_gives_the_same_states(seed: int, length: int) -> None:
    world = play(seed, length)
    wire = [(name, BOOK.decode_fact(codec.encode_fact(*fact))) for name, fact in world.log]
    states = fold(wire)
    assert states == fold(wire) == world.states
    for state in states.values():
        if state is not None:
            assert BOOK.decode_state(codec.encode_state(state)) == state


@given(SEEDS, LENGTHS, LENGTHS)
def test_state_and_tail_give_the_full_replay(seed: int, length: int, cut: int) -> None:
    world = play(seed, length)
    states = fold(world.log[:cut])
    for component, fact in world.log[cut:]:
        key = (component, fact.envelope.aggregate_id)
        before = states.get(key)
        stored = BOOK.decode_state(codec.encode_state(before)) if before else None
        states[key] = dispatch.evolve(component, stored, fact, 0)
    assert states == world.states


@given(SEEDS, st.integers(1, 120))
def test_command_repeated_at_once_changes_nothing(seed: int, length: int) -> None:
    world = play(seed, length)
    (component, key, command), world.now = world.sent[-1]
    assert world.send(component, key, command, world.command_id) == ()


@given(SEEDS, LENGTHS)
def test_deposits_sent_again_at_any_time_add_nothing(seed: int, length: int) -> None:
    world = play(seed, length, "miners")
    deposits = [
        (fact.envelope.command_id or "", fact.envelope.aggregate_id, fact.data.amount_micro)
        for _, fact in world.log
        if isinstance(fact.data, me.StakeDeposited)
    ]
    assert len({name for name, _, _ in deposits}) == len(deposits)
    for name, key, amount in deposits:
        assert world.send("miners", key, c.DepositStake(amount_micro=amount), name) == ()
        assert world.send("miners", key, c.DepositStake(amount_micro=amount + 1), name) == ()


@given(SEEDS, LENGTHS)
def test_every_command_sent_again_pays_and_slashes_nobody_twice(seed: int, length: int) -> None:
    world = play(seed, length, "rewards", "miners")
    paid, slashed = totals(world)
    for (component, key, command), _ in list(world.sent):
        if isinstance(command, c.CalculateReward | c.CollectSlash | c.SlashStake):
            world.send(component, key, command)
    assert max((n for n in totals(world)[0].values()), default=1) == 1
    assert max((n for n in totals(world)[1].values()), default=1) == 1
    assert paid <= totals(world)[0]
    assert slashed <= totals(world)[1]


def totals(world: World) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """How often each reward was paid, and each miner slashed for each case."""
    paid: Counter[str] = Counter()
    slashed: Counter[tuple[str, str]] = Counter()
    for _, fact in world.log:
        if isinstance(fact.data, re.RewardPaid):
            paid[reward.reward_id(fact.data.task_id, fact.data.miner_id)] += 1
        if isinstance(fact.data, me.StakeSlashed):
            slashed[fact.envelope.aggregate_id, fact.data.case_id] += 1
    return paid, slashed


@given(SEEDS, LENGTHS)
def test_ledger_sums_to_zero_and_agrees_with_the_rewards(seed: int, length: int) -> None:
    world = play(seed, length, "rewards")
    booked: Counter[str] = Counter()
    for _, fact in world.log:
        entries = getattr(fact.data, "entries", ())
        assert sum(entry.amount_micro for entry in entries) == 0
        for entry in entries:
            booked[entry.account] += entry.amount_micro
    assert sum(booked.values()) == 0
    folded: Counter[str] = Counter()
    owed: Counter[str] = Counter()
    for state in world.states.values():
        assert isinstance(state, RewardState)
        for entry in state.entries:
            folded[entry.account] += entry.amount_micro
        if state.status in ("calculated", "withheld"):
            owed[f"payable:{state.miner_id}"] += reward.due_micro(state)
        if state.paid_at is not None:
            owed[f"paid:{state.miner_id}"] += reward.due_micro(state)
    assert folded == booked
    assert +Counter({a: n for a, n in booked.items() if a.startswith("pa")}) == +owed


@given(SEEDS, LENGTHS)
def test_stake_is_neither_made_nor_lost(seed: int, length: int) -> None:
    world = play(seed, length, "miners")
    for (_, key), state in world.states.items():
        assert isinstance(state, MinerState)
        mine = [f.data for _, f in world.log if f.envelope.aggregate_id == key]
        deposited = sum(d.amount_micro for d in mine if isinstance(d, me.StakeDeposited))
        slashed = sum(d.amount_micro for d in mine if isinstance(d, me.StakeSlashed))
        assert state.stake_slashed_micro == slashed
        assert state.stake_free_micro + state.stake_locked_micro == deposited - slashed


@pytest.mark.parametrize("component", sorted(KEYS))
def test_folds_and_tables_are_total_over_the_catalogue(component: str) -> None:
    topic = "validations" if component == "fraud" else component
    facts = {kind.model for kind in EVENTS.values() if kind.topic == topic}
    module = MODULES[component]
    assert set(module.FOLDS) == {cls for cls, _ in module.TRANSITIONS}
    assert set(module.FOLDS) <= facts
    if topic == "validations":
        assert {*validationfolds.FOLDS, *fraud.FOLDS} == facts
    else:
        assert set(module.FOLDS) == facts


@pytest.mark.parametrize("component", sorted(KEYS))
def test_fact_of_a_lost_history_is_an_integrity_error(component: str) -> None:
    world = World()
    for (cls, _), row in MODULES[component].TRANSITIONS.items():
        if None in row.sources:
            continue
        event = cls.model_construct()
        with pytest.raises(IntegrityError) as caught:
            world.append(component, KEYS[component][0], event)
        assert caught.value.code == "lost_history"
