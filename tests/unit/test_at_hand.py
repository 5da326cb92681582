"""What a node has in memory of what is over: as much as its settings say."""

from __future__ import annotations

from pathlib import Path

import pytest

from everlode.events.services import BY_NODE
from everlode.events.snapshots import AnsweredFact
from everlode.log.folds import AtHand, Folds
from everlode.processes.node import NodeSpec, component_of
from everlode.rewards.component import RewardComponent
from everlode.settings.environment import VARIABLES, settings
from everlode.topics import Topology

TOPOLOGY = Topology(regions=("eu",))


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("kind", BY_NODE)
def test_node_has_so_much_at_hand_as_its_settings_say(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def at_hand() -> AtHand:
        made = component_of(NodeSpec(kind, "eu", "n"), TOPOLOGY, settings(), tmp_path)
        if isinstance(made, RewardComponent):
            made._sink.close()  # type: ignore[attr-defined]
        return made.folds.at_hand

    assert at_hand() == AtHand(), "the setting's default is the constant"
    monkeypatch.setenv("EVERLODE_ENDED_AT_HAND", "7")
    monkeypatch.setenv("EVERLODE_ANSWERS_AT_HAND", "1000")
    assert at_hand() == AtHand(7, 1000)


def test_answers_at_hand_are_the_last_ones_and_no_more() -> None:
    folds = Folds(("tasks",), lambda *_: None)
    folds.keep(AtHand(answers=3))
    facts = [
        AnsweredFact("t", f"c-{n}", f"e-{n}", "TaskSubmitted", 0, n, n + 1, n + 1, n + 100)
        for n in range(10)
    ]
    for fact in facts:
        assert folds.remember(fact)
        assert len(folds.answers) <= 3
    asked = [("t", f"c-{n}") for n in range(10)]
    assert list(folds.answers) == asked[-3:]
    assert [folds.contents.of(one) for one in asked] == [0] * 7 + [107, 108, 109]
    assert not folds.remember(facts[-1]), "a repeat"
