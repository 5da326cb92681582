"""A command id that comes again with another content is refused, where that can be known."""

from __future__ import annotations

from datetime import timedelta

import pytest

from everlode.events import commands as c
from everlode.events.base import Command
from everlode.primary.contents import Contents, content_of
from tests.support.facts.state_commands import DEADLINE, register, submit
from tests.unit.test_primary_core import BOTH, DEPOSIT, Desk, asked

MORE = c.DepositStake(amount_micro=6)


@pytest.mark.parametrize("turns", [1, 2])
def test_other_command_under_a_used_id_is_refused_and_the_same_is_a_repeat(turns: int) -> None:
    desk = Desk()
    inputs = [
        asked("m-us", DEPOSIT, 0, "id"),
        asked("m-us", DEPOSIT, 1, "id"),
        asked("m-us", MORE, 2, "id"),
        asked("m-us", c.SuspendMiner(reason="r"), 3, "id"),
        asked("m-eu", MORE, 4, "id"),  # another aggregate's
    ]
    for part in [inputs] if turns == 1 else [[one] for one in inputs]:
        desk.turn(BOTH, *part)
    assert desk.answers() == [
        ("m-us", "done", ""),
        ("m-us", "repeated", ""),
        ("m-us", "refused", "other_content"),
        ("m-us", "refused", "other_content"),
        ("m-eu", "done", ""),
    ]


def test_what_a_predecessor_has_decided_is_a_repeat() -> None:
    desk = Desk()
    desk.turn(BOTH, asked("m-us", DEPOSIT, 0, "id"))
    desk.component.contents = Contents()  # a successor knows the log
    desk.turn(BOTH, asked("m-us", MORE, 1, "id"))
    assert [outcome for _, outcome, _ in desk.answers()] == ["done", "repeated"]


def test_what_was_not_committed_is_no_content() -> None:
    desk = Desk()
    (_,) = desk.begin(BOTH, asked("m-us", DEPOSIT, 0, "id"))
    desk.commit(desk.core.open(BOTH, desk.tick()))
    desk.turn(BOTH, asked("m-us", MORE, 1, "id"))
    assert desk.answers() == [("m-us", "done", "")]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (submit(), submit(deadline_at=DEADLINE + timedelta(hours=1)), True),
        (submit(), submit(base_reward_micro=1), False),
        (register(), register(), True),
        (c.RetireMiner(reason="r"), c.SuspendMiner(reason="r"), False),
    ],
)
def test_content_is_all_but_times(one: Command, other: Command, same: bool) -> None:
    assert (content_of(one) == content_of(other)) == same
