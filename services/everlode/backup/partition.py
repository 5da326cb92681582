"""The exact cut of one partition number, a slice of its keys at a time, as it is sealed.

Steps (3) and (4) of the protocol in cut.py: what a slice lacks is brought, and it is cut again,
until it is every row of the moment. Memory: a slice, and its facts of some seconds. Shell.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from everlode.backup.cut import Lacking, Slice, SliceCut, cut, further
from everlode.backup.facts import Facts, Window, begins, fences_at, positions_at
from everlode.backup.gather import GatheredPartition, Gatherer
from everlode.backup.heads import NEW_GENERATION
from everlode.backup.standing import Fence
from everlode.errors import IntegrityError
from everlode.events.states import State
from everlode.projection.fold import Incoming, Key, Known, Prefix
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink
from everlode.topics.names import state_topic


class PartitionCut:
    """The cut of one partition number. Its states are made as they are asked for."""

    def __init__(self, gatherer: Gatherer, gathered: GatheredPartition, report: Sink) -> None:
        """Read its facts. Raises: IntegrityError; Unavailable."""
        self._gatherer, self._gathered, self._report = gatherer, gathered, report
        self._standing = gathered.standing
        self.partition = self._standing.partition
        self.rows = self.from_rows = self.without_row = 0
        """How many rows the states were compared with; states of which a topic should have had a
        record and had none; states that should have had a row."""
        self.read_s = 0.0
        """How long the cut took so far."""
        self._stamp = gatherer.moment.chosen.stamp
        self._sought: set[str] = set()
        self._back_ms = -1
        with self._timed():
            self._facts = self._read()
            self._sought |= self._facts.changed
            while not begins(self._stamp, self._standing, self._facts):
                self._facts = self._read()
        self.positions: Mapping[str, Prefix] = positions_at(self._standing, self._facts)
        self.fences: Mapping[Fence, int] = fences_at(self._standing, self._facts)
        self.parked: tuple[Incoming, ...] = tuple(
            w for w in self._standing.parked if w.fact.envelope.stamp <= self._stamp
        )

    def states(self, component: str) -> Iterator[tuple[str, Known]]:
        """The keys of a component with their states, None of what was deleted; in any order.

        Raises: IntegrityError: what is stored contradicts itself, or is gone. Unavailable.
        """
        for number in self._gathered.slices.of_component(component):
            with self._timed():
                found = self._slice(number)
                keys = sorted(found.states.items())
            for (_, name), known in keys:
                yield name, known

    # -- steps -------------------------------------------------------------------------------

    def _slice(self, number: int) -> SliceCut:
        part = self._gathered.slice(number)
        while isinstance(found := self._cut(part, number), Lacking):
            if found.from_rows:
                part = self._filled(part, found.from_rows)
            if found.older:
                self._sought |= {name for _, name in found.older}
                self._facts = self._read(found.older)
        self._require_equal(found.unequal)
        self.rows += len(part.rows)
        self.without_row += found.without_row
        return found

    def _cut(self, part: Slice, number: int) -> SliceCut | Lacking:
        facts = self._gathered.facts_of(number, self._facts)
        return cut(self._stamp, self._standing, part, facts)

    def _filled(self, part: Slice, keys: frozenset[Key]) -> Slice:
        """With states that no topic has, as their rows have them.

        None is lost that has not come yet, nor one before a state that came after T.
        """
        self.from_rows += sum(
            not part.rows[key].on_its_way and key not in part.heads.jumps for key in keys
        )
        return replace(part, from_rows={**part.from_rows, **self._gatherer.states(keys)})

    def _read(self, lacking: frozenset[Key] = frozenset()) -> Facts:
        """The facts from further back than those before. Raises: IntegrityError; Unavailable."""
        if self._back_ms >= 0:
            why = f"partition {self.partition}: {self._back_ms} ms before it do not reach"
            self._report(Note("cut", why))
        self._back_ms = further(self.partition, self._back_ms, lacking)
        kept_ms = further(self.partition)
        return self._gathered.facts(Window(self._stamp, self._back_ms, kept_ms, self._sought))

    def _require_equal(self, unequal: Mapping[Key, State]) -> None:
        """One state may have two forms, in an upgrade; and folds of two versions may differ."""
        rows = self._gatherer.states(unequal) if unequal else {}
        for key, state in unequal.items():
            row = rows[key].state
            if row is not None and row.fold_version == state.fold_version and row != state:
                topic = state_topic(self._gatherer.generation, key[0])
                raise IntegrityError(
                    f"{topic}/{self.partition}: {key[1]} has another state of version"
                    f" {state.version} than its row",
                    code="state_conflict",
                    hint=NEW_GENERATION,
                )

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.read_s += time.monotonic() - began
