"""What nobody foresaw in a decision: answered, kept, passed over; the primary goes on."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import pytest

from everlode.control.fold import ControlState
from everlode.errors import FencedOut, IntegrityError, Unavailable
from everlode.events.base import Command, Fact
from everlode.primary.component import Owed
from everlode.primary.ready import Ready
from everlode.primary.unexpected import Unexpected, attempt
from everlode.state.view import Where
from everlode.telemetry.entries import Undecided
from tests.unit.test_primary_core import BOTH, DEPOSIT, NOW, Desk, asked, assigned


class Flawed(Desk):
    """Its component makes a mistake wherever it is told to."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.at = ""
        component = self.component

        def before(key: str, _: Command, __: datetime) -> Iterable[Owed]:
            if self.at == key:
                raise self.error
            return ()

        def react(_: Fact, __: Where) -> Iterable[Owed]:
            yield Owed("caused", "m-eu", DEPOSIT, NOW)
            if self.at == "react":
                raise self.error

        def due(_: datetime, __: ControlState) -> Iterable[Owed]:
            yield Owed("due", "m-us", DEPOSIT, NOW)
            if self.at == "due":
                raise self.error

        component.before = before  # type: ignore[assignment,method-assign]
        component.react = react  # type: ignore[assignment,method-assign]
        component.due = due  # type: ignore[assignment,method-assign]


ERRORS = [KeyError("x"), OverflowError("y"), IntegrityError("cannot follow"), RecursionError()]


def undecided(ready: Ready) -> list[str]:
    return [entry.reason for entry in ready.report if isinstance(entry, Undecided)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_command_whose_decision_fails_is_answered_and_kept_and_the_next_is_done(
    error: Exception,
) -> None:
    desk = Flawed(error)
    desk.at = "m-us"
    bad, good = asked("m-us", offset=0, name="bad"), asked("m-eu", offset=1, name="good")
    (ready,) = desk.turn(BOTH, bad, good)
    assert desk.answers() == [("m-us", "refused", "internal"), ("m-eu", "done", "")]
    assert ready.read == {("us.commands.miners", 0): 2}
    [(where, letter)] = ready.letters
    assert (where, letter.code) == (bad.where, "internal")
    assert "DepositStake bad" in letter.message
    assert type(error).__name__ in letter.message
    assert undecided(ready) == [letter.message]


def test_answer_names_the_command_and_keeps_what_went_wrong_to_itself() -> None:
    desk = Flawed(KeyError("a secret"))
    desk.at = "m-us"
    (ready,) = desk.turn(BOTH, asked("m-us", name="bad"))
    (answer,) = desk.core.held(1, NOW)
    assert "DepositStake bad" in answer.message
    assert "dead letter" in answer.hint
    assert "KeyError" not in answer.message
    assert "secret" not in ready.letters[0][1].message


def test_same_command_again_is_decided_again() -> None:
    desk = Flawed(KeyError("x"))
    desk.at = "m-us"
    desk.turn(BOTH, asked("m-us", offset=0, name="bad"))
    desk.at = ""
    desk.turn(BOTH, asked("m-us", offset=1, name="bad"))
    assert [outcome for _, outcome, _ in desk.answers()] == ["refused", "done"]


def test_reaction_that_fails_is_kept_and_passed_over() -> None:
    desk = Flawed(KeyError("x"))
    desk.at = "react"
    (ready,) = desk.turn(BOTH, assigned(4), asked("m-eu"))
    assert [where for where, _ in ready.letters] == [Where("us.1.tasks", 0, 4)]
    assert ready.read["us.1.tasks", 0] == 5
    assert desk.answers() == [("m-eu", "done", "")]


def test_mistake_in_what_is_due_is_reported_once_and_nothing_stops() -> None:
    desk = Flawed(KeyError("x"))
    desk.at = "due"
    reports = []
    for offset in range(3):
        (ready,) = desk.turn(BOTH, asked("m-eu", offset=offset))
        reports.append(undecided(ready))
        assert ready.letters == []
    assert [len(found) for found in reports] == [1, 0, 0]
    assert [outcome for _, outcome, _ in desk.answers()] == ["done"] * 3


def test_command_whose_facts_cannot_be_written_is_refused_once_that_is_known() -> None:
    desk = Desk()
    desk.core.impossible([("m-us", "large")])
    (ready,) = desk.turn(BOTH, asked("m-us", name="large"), asked("m-us", offset=1))
    assert [outcome for _, outcome, _ in desk.answers()] == ["refused", "done"]
    assert len(ready.letters) == 1


@pytest.mark.parametrize("error", [Unavailable("later"), FencedOut("not here")])
def test_what_says_nothing_of_the_input_is_not_held_against_it(error: Exception) -> None:
    desk = Flawed(error)
    desk.at = "m-us"
    with pytest.raises(type(error)):
        desk.turn(BOTH, asked("m-us"))


def test_attempt_that_succeeds_is_none() -> None:
    assert attempt("x", lambda: None) is None
    assert isinstance(attempt("x", lambda: 1 // 0), Unexpected)
