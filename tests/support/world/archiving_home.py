"""A home whose validations and fraud cases leave the memory as they end, with a topic in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from random import Random
from typing import Any

from everlode.adapters.kafka import Raw, Record
from everlode.events.base import Command, Fact
from everlode.events.states import State, ValidationState
from everlode.events.tasks import TaskSolved
from everlode.log.facts import LoggedFact
from everlode.log.folds import Folds
from everlode.snapshots.archive import Archive
from everlode.snapshots.write import Checkpoint, LogPosition
from everlode.state.view import HomeView
from tests.support.world.state_home import Home

PARTS = ("validations", "fraud")


class ArchiveInMemory(Archive):
    """What it has archived is in a list, by offset."""

    def __init__(self) -> None:
        super().__init__("nowhere", "eu.1", "validations", 1)
        self.records: list[Raw] = []
        self.reads = 0
        self.snapshot: dict[bytes, bytes] = {}
        """What stands in the snapshot's topic."""

    def write(self, taken: list[Record]) -> list[int]:
        """As a transaction does; the offsets."""
        offsets = []
        for record in taken:
            key = record.key.encode() if isinstance(record.key, str) else record.key or b""
            offsets.append(len(self.records))
            if record.topic == self.topic:
                self.records.append(Raw(self.topic, 0, offsets[-1], key, record.value, []))
            elif record.value is None:
                self.snapshot.pop(key, None)
            else:
                self.snapshot[key] = record.value
        return offsets

    def _read(self, partition: int, offset: int) -> Raw:
        self.reads += 1
        return self.records[offset]


class ArchivingHome(Home):
    """As Home; after each command some of what has ended leaves, as `chance` has it."""

    def __init__(self, chance: Random, shuffle: Any = None, **more: Any) -> None:
        self._chance = chance
        self.folded = Folds(PARTS, self._changed)
        self.archive = ArchiveInMemory()
        self.folded.find = self.archive.find
        self.folded.past.firsts = self.archive.firsts
        self.folded.left = self._left
        self.folded.may_leave = self._may_leave
        self._checkpoint = Checkpoint("eu.1", "validations", self.folded, self.archive)
        super().__init__(shuffle, **more)

    @property
    def views(self) -> dict[str, HomeView]:
        """By component; the validations' knows what has left."""
        return self._views

    @views.setter
    def views(self, made: dict[str, HomeView]) -> None:
        self.folds |= self.folded.states
        seen = HomeView("eu", self.folds, self.folded.past.of("eu"))
        self._views = {**{n: HomeView("eu", self.folds) for n in made}, "validations": seen}

    def _changed(self, _: State | None, new: State | None) -> None:
        self.views["validations"].changed(new)

    def _left(self, state: State) -> None:
        self.views["validations"].left(state)

    def _may_leave(self, state: State) -> bool:
        """As `ValidationComponent`: by what of the tasks has been read."""
        unread = [
            fact.envelope.stamp
            for target, fact in self.queue
            if target == "validations" and isinstance(fact.data, TaskSolved)
        ]
        if isinstance(state, ValidationState) and (state.solved_stamp or 0) > min(
            unread, default=2**62
        ):
            return False
        return self.views["validations"].may_leave(state)

    def keep(self, component: str, fact: Fact, state: State) -> None:
        """Fold it; validations and cases through the primary's own folds."""
        if component == "validations":
            offset = len(self.facts)
            self.folded.fold(LoggedFact(fact, 0, offset))
        else:
            super().keep(component, fact, state)

    def carry_out(
        self, component: str, key: str, command: Command, at: datetime, *, own: bool = False
    ) -> None:
        """See Home."""
        try:
            super().carry_out(component, key, command, at, own=own)
        finally:
            if self._chance.random() < 0.5:
                self._archive_some()

    def _archive_some(self) -> None:
        at = LogPosition([len(self.facts)], [len(self.facts)], 0, {})
        taken = self._checkpoint.take(2**40, at, self._chance.randrange(1, 20), 0.0)
        self._checkpoint.committed(self.archive.write(taken))

    def in_memory(self) -> Iterator[State]:
        """Validations and cases that have not left."""
        for states in self.folded.states.values():
            yield from states.values()
