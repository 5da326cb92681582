"""Ids that strangers choose are never ones that we rely on."""

from __future__ import annotations

from uuid import uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.errors import Refusal
from everlode.events import commands as c
from everlode.events.barriers import Barrier
from everlode.events.base import Command, Event, Fact, OwnCommand
from everlode.events.catalogue import COMMANDS
from everlode.events.ids import NAMESPACE, OWN, check_outside, derived, fact_id, own_id
from everlode.events.tasks import TaskAssigned, TaskLeaseExpired
from everlode.events.validations import FraudCleared, FraudConfirmed
from everlode.primary.inputs import FactRead, Input
from everlode.state.reactions import command_id, react
from everlode.state.view import Where
from tests.support.facts.state_commands import NOW, fact_of
from tests.unit.test_primary_core import BOTH, Desk, asked

PARTS = st.lists(st.text(max_size=6), max_size=4)
ABOUT = {"suspects": ("m-us",), "decided_by": "x", "evidence": ()}
CAUSES: list[Event] = [
    TaskAssigned(
        attempt=1, miner_id="m-us", manager_node="n", lease_until=NOW, base_reward_micro=0,
    ),
    TaskLeaseExpired(attempt=1, miner_id="m-us", final=False),
    FraudConfirmed.model_validate({"rule": "copied-solution", "penalty_micro": 9, **ABOUT}),
    FraudCleared.model_validate({"rule": "colluding-votes", "reason": "r", **ABOUT}),
]  # fmt: skip
"""Each is for m-us: its stake, its record, its suspension, its name."""


def cause(number: int) -> Fact:
    """The fact of that number, as anybody can compute it before it is there."""
    key = f"subject-{number}"
    return fact_of(
        CAUSES[number], key, event_id=fact_id(key, "c", 0), at=NOW, scope="task-manager/us"
    )


def foreseen() -> list[str]:
    """All ids that a stranger can compute of what will follow, by today's and by older rules."""
    found = []
    view = Desk().component.view_of("us")
    for number in range(len(CAUSES)):
        fact = cause(number)
        for reaction in react("miners", fact, view):
            event, rule, key = fact.envelope.event_id, reaction.rule, reaction.aggregate_id
            identity = command_id(event, reaction)
            older = str(uuid5(NAMESPACE, f"{event}/{rule}/{key}"))
            found += [identity, identity.removeprefix(OWN), older, f"{identity}/0", event]
    return found


FORESEEN = foreseen()
HARMLESS: list[Command] = [
    c.DepositStake(amount_micro=7),
    c.UpdateMiner(endpoint="e", specialties=("inference",), max_concurrent=2),
    c.UpdateMiner(endpoint="f", specialties=("inference",), max_concurrent=3),
    c.ReinstateMiner(reason="r"),
]
"""Lawful commands of a miner about itself, which prevent nothing."""
SILENCING: list[Command] = [
    c.SlashStake(case_id="subject-2", amount_micro=0),
    c.RecordOutcome(task_id="subject-1", outcome="expired", subject_id="x", work_ms=0, score_ppm=0),
    c.RecordClearing(case_id="subject-3"),
    c.LockStake(task_id="subject-0", amount_micro=0),
    c.ReleaseStake(task_id="subject-0"),
]
"""What a primary asks of itself: asked from outside first, it would be done already."""
STEPS = st.lists(
    st.one_of(
        st.integers(0, len(CAUSES) - 1),
        st.tuples(st.sampled_from(FORESEEN), st.sampled_from([*HARMLESS, *SILENCING])),
    ),
    max_size=30,
)


def carried_out(steps: list[int | tuple[str, Command]], turns: int) -> list[tuple[str, str]]:
    """(id, kind) of all facts that a primary of miners makes of its own accord."""
    desk, found = Desk(), []
    desk.turn(BOTH, asked("m-us", c.DepositStake(amount_micro=10**9), 0, "first"))
    for at in range(0, len(steps), turns):
        inputs: list[Input] = []
        for offset, one in enumerate(steps[at : at + turns], start=at + 1):
            if isinstance(one, int):
                inputs.append(FactRead(Where("us.1.tasks", 0, offset), cause(one)))
            else:
                name, command = one
                inputs.append(asked("m-us", command, offset, name))
        for ready in desk.turn(BOTH, *inputs):
            found += [
                (envelope.event_id, type(data).__name__)
                for _, envelope, data in ready.facts
                if not isinstance(data, Barrier) and (envelope.command_id or "").startswith(OWN)
            ]
    return found


@given(STEPS, st.integers(1, 10))
def test_no_lawful_commands_from_outside_change_what_a_primary_carries_out_by_itself(
    steps: list[int | tuple[str, Command]], turns: int
) -> None:
    alone: list[int | tuple[str, Command]] = [step for step in steps if isinstance(step, int)]
    assert carried_out(steps, turns) == carried_out(alone, turns)


def test_miner_that_knows_the_ids_of_its_conviction_is_slashed_and_suspended_all_the_same() -> None:
    steps: list[int | tuple[str, Command]] = [(name, HARMLESS[0]) for name in FORESEEN]
    steps += [(f"free-{n}", command) for n, command in enumerate(SILENCING)]
    kinds = [kind for _, kind in carried_out([*steps, 2], 1)]
    assert kinds == ["StakeSlashed", "ReputationChanged", "MinerSuspended"]


def test_id_of_a_primarys_own_is_refused_from_outside_also_when_it_is_used_up() -> None:
    desk = Desk()
    desk.turn(BOTH, FactRead(Where("us.1.tasks", 0, 1), cause(2)))
    used = own_id("reaction", cause(2).envelope.event_id, "fraud-slash", "m-us")
    (ready,) = desk.turn(BOTH, asked("m-us", HARMLESS[0], 1, used))
    assert desk.answers() == [("m-us", "refused", "reserved_id")]
    assert [data for _, _, data in ready.facts if not isinstance(data, Barrier)] == []
    with pytest.raises(Refusal, match="own:"):
        check_outside(OWN)
    check_outside("owner")


def test_what_only_a_primary_asks_is_refused_from_outside() -> None:
    desk = Desk()
    (ready,) = desk.turn(BOTH, *(asked("m-us", one, n) for n, one in enumerate(SILENCING)))
    assert desk.answers() == [("m-us", "refused", "not_yours")] * len(SILENCING)
    assert [data for _, _, data in ready.facts if not isinstance(data, Barrier)] == []
    assert len([model for model in COMMANDS.values() if issubclass(model, OwnCommand)]) == 16


def test_own_command_of_an_older_build_is_not_carried_out_again_by_this_one() -> None:
    """A cause that is read again after an upgrade: the state knows what has followed from it."""
    desk = Desk()
    react_by_rule = desk.component.react
    desk.component.react = lambda fact, where: [  # type: ignore[method-assign]
        owed._replace(command_id=str(uuid5(NAMESPACE, owed.command_id)))
        for owed in react_by_rule(fact, where)
    ]
    first: list[Input] = [
        FactRead(Where("us.1.tasks", 0, number), cause(number)) for number in range(len(CAUSES))
    ]
    (ready,) = desk.turn(BOTH, *first)
    assert len([data for _, _, data in ready.facts if not isinstance(data, Barrier)]) > 4
    desk.component.react = react_by_rule  # type: ignore[method-assign]
    again: list[Input] = [
        FactRead(Where("us.1.tasks", 0, number), cause(number)) for number in range(len(CAUSES))
    ]
    (ready,) = desk.turn(BOTH, *again)
    assert [data for _, _, data in ready.facts if not isinstance(data, Barrier)] == []


@given(PARTS, PARTS)
def test_other_parts_give_another_id(one: list[str], other: list[str]) -> None:
    assert (derived("k", *one) == derived("k", *other)) == (one == other)


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_id_is_the_uuid_5_of_the_netstrings_of_its_parts(parts: list[str]) -> None:
    text = b"".join(b"%d:%s," % (len(p.encode()), p.encode()) for p in parts)
    assert derived(*parts) == str(uuid5(NAMESPACE, text.decode()))


def test_facts_of_aggregates_and_commands_with_the_separator_in_their_names_are_told_apart() -> (
    None
):
    assert fact_id("a/b", "c", 0) != fact_id("a", "b/c", 0)
    assert fact_id("a", "c/1", 0) != fact_id("a/c", "1", 0)
    assert own_id("pay", "t|m").removeprefix(OWN) != fact_id("pay", "t|m", 0)
    text = "4:fact,6:task-1,3:c-1,1:0,"  # as docs/format.md has it
    assert fact_id("task-1", "c-1", 0) == str(uuid5(NAMESPACE, text))
