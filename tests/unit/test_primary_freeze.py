"""A frozen primary rests, says once what it has committed, and goes on when its time is over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from everlode.events.control import ScopeDrained
from everlode.membership.agent import NodeAgent
from everlode.primary import freeze as module
from everlode.primary.freeze import Freeze
from tests.unit.test_control_grounds import TASKS, Log
from tests.unit.test_control_wishes import answer, ask, drain, freeze, started

SEQS = [7, 9]


class Node:
    """A node on a control log, and what it appends."""

    def __init__(self, log: Log, node: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log, self.sent, self.now = log, list[ScopeDrained](), 0.0
        appends = SimpleNamespace(append_async=lambda _, data, **__: self.sent.append(data))
        agent: Any = SimpleNamespace(identity=SimpleNamespace(node_id=node), log=appends)
        self.agent = agent
        self.freeze = Freeze(cast(NodeAgent, agent))
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def rests(self, *, serves: bool = True) -> bool:
        self.agent.control = self.log.state
        epoch = self.log.state.epoch(TASKS)
        return self.freeze.holds({TASKS: epoch}, "eu.1.tasks", SEQS if serves else None)


def test_primary_rests_from_the_freeze_to_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    log = started()
    node = Node(log, "a", monkeypatch)
    ask(log, "one", "switchover")
    assert not node.rests(), "asked for, and not begun"
    freeze(log, "one")
    assert node.rests()
    answer(log, "one")
    assert not node.rests()


def test_positions_are_published_once_and_again_until_they_are_read_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = started()
    node = Node(log, "a", monkeypatch)
    ask(log, "one", "switchover")
    freeze(log, "one")
    for _ in range(3):
        assert node.rests()
    (sent,) = node.sent
    assert [(p.topic, p.partition, p.seq) for p in sent.positions] == [
        ("eu.1.tasks", 0, 7),
        ("eu.1.tasks", 1, 9),
    ]
    assert (sent.operation_id, sent.node_id, sent.held_epoch) == ("one", "a", 1)


def test_primary_goes_on_by_itself_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    log = started()
    node = Node(log, "a", monkeypatch)
    ask(log, "one", "switchover")
    freeze(log, "one")  # for a millisecond
    assert node.rests()
    node.now = 0.002
    assert not node.rests()
    drain(log, "one")
    assert not node.rests(), "nor does it rest again for the same wish"


def test_primary_whose_lease_ran_out_in_the_freeze_opens_nothing_after_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = started()
    node = Node(log, "a", monkeypatch)
    ask(log, "one", "switchover")
    freeze(log, "one")
    assert not node.rests(serves=False), "it has to open its epoch before it can answer"
    assert node.sent == []
    assert node.rests()
    drain(log, "one")
    assert node.rests(serves=False)
    assert len(node.sent) == 1
