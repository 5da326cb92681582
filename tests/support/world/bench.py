"""The primary of one component in eu, its real core, rules and folds; no Kafka.

Its own facts come back to it in the next turn, as far as it reacts to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from everlode.control.fold import ControlState, NodeState
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Command, CommandHeader, Fact
from everlode.events.stamp import HybridClock
from everlode.log.facts import LoggedFact
from everlode.primary.component import Component, Notice
from everlode.primary.core import Core
from everlode.primary.inputs import CommandRead, FactRead, Input, Tick, Turn
from everlode.primary.pending import HOME
from everlode.primary.ready import Ready
from everlode.state.view import Where
from tests.support.facts.state_commands import NOW

JUDGES = (("expert-1", "expert"), ("auto-1", "automatic"))
"""Validator nodes that the control log knows."""
NODES = {
    name: NodeState(name, "eu", "validation", kind, "", 0, "healthy", 0) for name, kind in JUDGES
}


class Log:
    """As much of a fact log as a core needs."""

    def __init__(self, name: str) -> None:
        self.origin, self.topic, self.partitions, self.seqs = "eu.1", f"eu.1.{name}", 1, [0]
        self.clock = HybridClock()

    def partition_of(self, _: str) -> int:
        return 0


class Bench:
    """One primary, a turn at a time."""

    def __init__(self, component: Component, known: Iterable[Fact] = ()) -> None:
        """`known`: what its log holds from before."""
        self.component, self.log = component, Log(component.name)
        for offset, fact in enumerate(known):
            component.folds.fold(LoggedFact(fact, 0, offset))
        self.core = Core(component, self.log, "eu", "node")
        self.control = replace(ControlState(), nodes=NODES)
        self.now: datetime = NOW
        self._turns, self._offset = 0, 0
        self._back: list[Fact] = []
        self.notices: list[Notice] = []
        """All that others must hear of."""
        self._commit(self.core.open({"eu": 1}, self._tick()))

    def turn(self, *inputs: Input, over: bool = False) -> list[Fact]:
        """What it appends, without marks. `over`: all commands stored by now are read."""
        own, self._back = [self.caused(fact) for fact in self._back], []
        turn = Turn(
            {"eu": 1}, [*inputs, *own], self._tick(), self.control, self.now if over else None
        )
        found: list[Fact] = []
        for ready in self.core.turn(turn):
            found += self._commit(ready)
            self.notices += ready.notices
        if self.log.topic in self.component.cause_topics():
            self._back = found
        return found

    def answers(self) -> list[str]:
        """Codes of the refusals, or outcomes, since the last look."""
        return [a.code or a.outcome for a in self.core.held(HOME, NOW)]

    def caused(self, fact: Fact) -> FactRead:
        """A fact is read, of whichever topic it is at home in."""
        self._offset += 1
        return FactRead(Where("eu.1.facts", 0, self._offset), fact)

    def asked(self, key: str, command: Command, by: str, name: str = "") -> CommandRead:
        """A command from outside is read."""
        self._offset += 1
        header = CommandHeader(
            command_id=name or f"c{self._offset}", aggregate_id=key, issued_by=by, reply_to="r",
            issued_at=self.now, correlation_id="s",
        )  # fmt: skip
        return CommandRead(Where("eu.commands.x", 0, self._offset), header, command)

    def _tick(self) -> Tick:
        self._turns += 1
        at = self.now + timedelta(seconds=self._turns)
        return Tick(at, 1_000_000, float(self._turns))

    def _commit(self, ready: Ready) -> Sequence[Fact]:
        for partition, envelope, _ in ready.facts:
            self.log.seqs[partition] = envelope.seq
        self.core.committed(list(range(len(ready.facts))))
        marks = Barrier | EpochOpened
        return [Fact(e, data) for _, e, data in ready.facts if not isinstance(data, marks)]
