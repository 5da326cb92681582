"""Facts that have no effect: what may be given again, and that it is all of them or none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from everlode.adapters.clock import WallClock
from everlode.adapters.kafka import Raw, Record
from everlode.errors import NotFound, Refusal
from everlode.log.fates import Wish
from everlode.log.fenced import REISSUE_OF, Fenced, Reissuer
from tests.unit.test_control_fences import SCOPE
from tests.unit.test_control_fences import Fenced as Network

LOST = Fenced(
    "e-1", "above_vector", "TaskSubmitted", "us/t", 1, SCOPE, 1, "us.1.tasks", 1, 41, 40,
    "2026-01-01T00:00:00+00:00", "c-1", "us.commands.tasks", 1, 7,
)  # fmt: skip
FOLLOWED = LOST._replace(event_id="e-2", command_topic=None)
WISHES = [Wish("e-1", "ann", "why"), Wish("e-2", "ann", "why")]


class Giving(Reissuer):
    """Whose commands are there, and whose appends are noted."""

    def __init__(self, network: Network) -> None:
        super().__init__(cast("Any", SimpleNamespace()), network.state, WallClock())
        self.given: list[tuple[str, Record]] = []

    def _command(self, fact: Fenced) -> Raw:
        if fact.command_topic is None:
            return super()._command(fact)
        return Raw(fact.command_topic, 1, 7, b"us/t", b"value", [("ce_id", b"c-1")])

    def _append(self, fact: Fenced, wish: Wish, owner: str, record: Record) -> None:
        self.given.append((owner, record))


@pytest.fixture
def network() -> Network:
    made = Network()
    made.taken()
    return made


def test_command_goes_as_it_was_to_whoever_serves_its_scope_now(network: Network) -> None:
    giving = Giving(network)
    (done,) = giving.reissue([LOST, FOLLOWED], WISHES[:1])
    ((owner, record),) = giving.given
    assert (owner, record.topic, record.partition) == ("eu", "eu.commands.tasks", 1)
    assert (record.key, record.value) == (b"us/t", b"value")
    assert (REISSUE_OF, b"e-1") in list(record.headers)
    assert (done.command_id, done.owner, done.topic) == ("c-1", "eu", "eu.commands.tasks")


def test_dry_run_says_the_same_and_gives_nothing(network: Network) -> None:
    giving = Giving(network)
    assert giving.reissue([LOST], WISHES[:1], dry_run=True) == Giving(network).reissue(
        [LOST], WISHES[:1]
    )
    assert giving.given == []


@pytest.mark.parametrize(
    ("facts", "error", "said"),
    [
        ([LOST, FOLLOWED], Refusal, "e-2 came of no command"),
        ([LOST], NotFound, "no fenced fact is named 'e-2'"),
        ([LOST, FOLLOWED._replace(scope="rewards/us")], Refusal, "nobody serves rewards/us"),
    ],
)
def test_nothing_is_given_unless_all_may_be(
    network: Network, facts: list[Fenced], error: type[Exception], said: str
) -> None:
    giving = Giving(network)
    with pytest.raises(error, match=said):
        giving.reissue(facts, WISHES)
    assert giving.given == []
