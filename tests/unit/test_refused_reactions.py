"""A refusal of a primary's own command is expected by name, or others hear of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import pytest

from everlode.control.fold import ControlState
from everlode.events import commands as c
from everlode.events.base import Command, Fact
from everlode.events.health import ReactionRefused
from everlode.miners.component import MinerComponent
from everlode.primary.component import Notice, Owed
from everlode.primary.ready import Ready
from everlode.state.expected import EXPECTED, is_expected
from everlode.state.view import Where
from everlode.telemetry.entries import OwnRefused
from tests.support.facts.codes import documented
from tests.unit.test_primary_core import BOTH, NOW, Desk, asked, assigned

ROOT = Path(__file__).parents[2]
COMPONENTS = ("tasks", "miners", "validations", "rewards")


class Owing(Desk):
    """Its miners' primary owes what it is given, for a fact or by time."""

    def __init__(self, rule: str, *commands: tuple[str, Command]) -> None:
        super().__init__()
        self.by_time = False
        owed = [
            Owed(f"own:{n}", key, command, NOW, "cause", rule)
            for n, (key, command) in enumerate(commands)
        ]

        def react(_: Fact, __: Where) -> Iterable[Owed]:
            return owed

        def due(_: datetime, __: ControlState) -> Iterable[Owed]:
            return owed if self.by_time else ()

        self.component.react = react  # type: ignore[assignment,method-assign]
        self.component.due = due  # type: ignore[assignment,method-assign]

    def reported(self, ready: Ready) -> list[tuple[str, str, str]]:
        """(rule, aggregate, code) of the entries; each has a notice that says the same."""
        entries = [e for e in ready.report if isinstance(e, OwnRefused)]
        said = [
            (n.data.rule, n.key, n.data.code)
            for n in ready.notices
            if isinstance(n.data, ReactionRefused)
        ]
        assert said == [(e.rule, e.key, e.code) for e in entries]
        return said


SLASH = c.SlashStake(case_id="case", amount_micro=1)
LOCK = c.LockStake(task_id="t", amount_micro=10**9)


def test_refusal_that_no_rule_expects_is_published_and_the_others_are_carried_out() -> None:
    desk = Owing("fraud-slash", ("nobody", SLASH), ("m-us", SLASH))
    (ready,) = desk.turn(BOTH, assigned(1))
    assert desk.reported(ready) == [("fraud-slash", "nobody", "no_miner")]
    ((key, event_id, data),) = ready.notices
    assert (key, isinstance(data, ReactionRefused)) == ("nobody", True)
    assert event_id
    assert data == ReactionRefused(
        component="miners", rule="fraud-slash", command_type="SlashStake",
        refused_command_id="own:0", cause_event_id="cause", code="no_miner",
        reason="no miner is named 'nobody'",
    )  # fmt: skip
    assert "StakeSlashed" in [type(fact).__name__ for _, _, fact in ready.facts]


def test_refusal_that_its_rule_expects_is_published_to_nobody() -> None:
    desk = Owing("task-assigned", ("m-us", LOCK))
    (ready,) = desk.turn(BOTH, assigned(1))
    assert desk.reported(ready) == []
    desk = Owing("fraud-slash", ("m-us", LOCK))  # the same refusal, by a rule that has no such
    (ready,) = desk.turn(BOTH, assigned(1))
    assert desk.reported(ready) == [("fraud-slash", "m-us", "insufficient_stake")]


def test_what_is_refused_in_each_turn_is_published_once_and_again_by_a_successor() -> None:
    desk = Owing("overdue", ("nobody", SLASH))
    desk.by_time = True
    found = [desk.turn(BOTH, asked("m-us", offset=n))[0] for n in range(3)]
    assert [len(desk.reported(ready)) for ready in found] == [1, 0, 0]
    desk.commit(desk.core.open(BOTH, desk.tick()))
    (again,) = desk.turn(BOTH, asked("m-us", offset=4))
    assert again.notices == found[0].notices, "the same event, by its id"


def test_command_for_a_scope_that_another_leads_is_no_refusal() -> None:
    desk = Owing("fraud-slash", ("m-eu", SLASH))
    (ready,) = desk.turn({"us": 5}, assigned(1))
    assert desk.reported(ready) == []


def test_notices_of_a_component_are_handed_on() -> None:
    class Told(MinerComponent):
        def notices(self, now_s: float, control: ControlState) -> Iterable[Notice]:
            yield Notice("k", "e", SLASH_REFUSED)

    desk = Desk()
    desk.component.notices = Told.notices.__get__(desk.component)  # type: ignore[method-assign]
    (ready,) = desk.turn(BOTH, asked("m-us"))
    assert [notice.event_id for notice in ready.notices] == ["e"]


SLASH_REFUSED = ReactionRefused(
    component="miners", rule="r", command_type="SlashStake", refused_command_id="i",
    cause_event_id="", code="no_miner", reason="",
)  # fmt: skip


@pytest.mark.parametrize("component", COMPONENTS)
def test_table_names_rules_and_codes_that_there_are(component: str) -> None:
    sources = [
        *(ROOT / "streams/everlode/state").glob("*.py"),
        *(ROOT / "services/everlode" / component).glob("*.py"),
    ]
    text = "".join(path.read_text() for path in sources if path.name != "expected.py")
    for (name, rule), codes in EXPECTED.items():
        if name == component:
            assert f'"{rule}"' in text, rule
            assert set(codes) <= documented(), rule
            assert all(re.fullmatch(r"[a-z].*[a-z]", why) for why in codes.values())
    assert {name for name, _ in EXPECTED} <= set(COMPONENTS)


def test_expected_is_by_component_and_rule() -> None:
    assert is_expected("miners", "fraud-suspend", "retired")
    assert not is_expected("miners", "fraud-suspend", "no_miner")
    assert not is_expected("tasks", "fraud-suspend", "retired")
    assert not is_expected("miners", "", "retired")
