"""Waiting for epochs: once, and not for long."""

from __future__ import annotations

import threading
import time
from types import MappingProxyType

from everlode.control.fold import ControlState, ScopeState
from everlode.events.control import ScopeAssigned
from everlode.projector.epochs import DecidedEpochs
from tests.support.world.projecting import SCOPE, fact, incoming


class Control:
    """A control log that says which epoch the tasks are in."""

    def __init__(self) -> None:
        self.state = ControlState()

    def decide(self, epoch: int) -> None:
        name = SCOPE["tasks"]
        decision = ScopeAssigned(
            scope_name=name, new_epoch=epoch, primary_node="n", region="eu", reason="bootstrap",
            based_on=0, based_on_epoch=epoch - 1,
        )  # fmt: skip
        scope = ScopeState(name, epoch, "n", "eu", 0, decision, -1)
        self.state = ControlState(scopes=MappingProxyType({name: scope}))


def test_known_epochs_are_answered_at_once() -> None:
    control = Control()
    control.decide(2)
    asked = DecidedEpochs(lambda: control.state, wait_s=60)
    item = incoming("tasks", 0, fact("tasks", "a", 1, 1, epoch=2))
    assert asked([item]) == {SCOPE["tasks"]: 2}


def test_epoch_that_is_being_decided_is_waited_for() -> None:
    control = Control()
    control.decide(1)
    asked = DecidedEpochs(lambda: control.state, wait_s=60)
    timer = threading.Timer(0.2, control.decide, [2])
    timer.start()
    item = incoming("tasks", 0, fact("tasks", "a", 1, 1, epoch=2))
    assert asked([item]) == {SCOPE["tasks"]: 2}
    timer.join()


def test_epoch_that_nobody_decides_is_waited_for_once() -> None:
    control = Control()
    asked = DecidedEpochs(lambda: control.state, wait_s=0.3)
    item = incoming("tasks", 0, fact("tasks", "a", 1, 1, epoch=9))
    began = time.monotonic()
    assert asked([item]) == {}
    assert 0.3 <= time.monotonic() - began < 5
    began = time.monotonic()
    for _ in range(100):
        assert asked([item]) == {}
    assert time.monotonic() - began < 5, "not 0.3 s each"
