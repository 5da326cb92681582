"""A command id that comes again with another content is refused, where that can be known."""

from __future__ import annotations

from datetime import timedelta

import pytest

from everlode.avro.codec import Codec
from everlode.avro.snapshots import decode_snapshot, encode_snapshot
from everlode.events import commands as c
from everlode.events.base import Command
from everlode.events.snapshots import AnsweredFact, SnapshotAnswers
from everlode.log.contents import content_of
from tests.support.facts.state_commands import DEADLINE, register, submit
from tests.unit.test_primary_core import BOTH, DEPOSIT, Desk, asked

CONTENT = -3659875416576453770
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


@pytest.mark.parametrize("known", [True, False])
def test_successor_knows_what_was_asked_for_by_the_snapshot(known: bool) -> None:
    first = Desk()
    kept: list[AnsweredFact] = []
    first.component.folds.answered = kept.append
    first.turn(BOTH, asked("m-us", DEPOSIT, 0, "id"))
    (fact,) = kept
    ring = SnapshotAnswers(0, (fact if known else fact._replace(content=0),))
    read = decode_snapshot(Codec(), encode_snapshot(ring))
    assert isinstance(read, SnapshotAnswers)
    successor = Desk()
    successor.component.folds.restore([], read.facts)
    successor.turn(BOTH, asked("m-us", DEPOSIT, 1, "id"), asked("m-us", MORE, 2, "id"))
    other = ("m-us", "refused", "other_content") if known else ("m-us", "repeated", "")
    assert successor.answers() == [("m-us", "repeated", ""), other]


def test_content_is_the_same_in_every_process_and_build() -> None:
    """A number that is written down: it stands in snapshots."""
    assert content_of(DEPOSIT) == CONTENT

    class DepositStake(c.DepositStake):
        """As a later build has it."""

        note: str = ""

    assert content_of(DepositStake(amount_micro=5)) == CONTENT
    assert content_of(DepositStake(amount_micro=5, note="n")) != CONTENT


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
