"""The fold of one partition number over all fact topics, batch by batch.

A partition number (the same of every fact topic of every origin) is folded by one projector at a
time. Rules, per record: version n+1 follows n; the version that is there again is a repeat when
it has the same id, and a conflict when not; a gap in a key's versions stops that key alone, until
what is missing arrives; a lower epoch after its scope's EpochOpened is fenced; a gap in `seq` is
noted. Nothing is skipped silently: every record is folded, repeated, parked or a Problem. Pure,
but for its own memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from everlode.errors import IntegrityError
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Fact
from everlode.events.states import State
from everlode.state.dispatch import component_of_state, evolve_fact

Key = tuple[str, str]
"""(state component, aggregate id)."""


class Known(NamedTuple):
    """What is known of an aggregate: its state (None when deleted), last version and event id.

    An empty `event_id` is unknown: a state that came from a backup.
    """

    state: State | None
    version: int
    event_id: str


UNKNOWN = Known(None, 0, "")


class Incoming(NamedTuple):
    """A fact as it was read, with its place in this cluster."""

    topic: str
    offset: int
    fact: Fact
    value: bytes


class Problem(NamedTuple):
    """Something that must not be passed over. `kind`: seq_gap, version_gap, conflict, fenced."""

    kind: str
    topic: str
    offset: int
    key: str
    event_id: str
    expected: int
    found: int


@dataclass(slots=True)
class Position:
    """Where one topic of this partition number stands; `seq` 0 before its first record."""

    seq: int = 0
    stamp: int = 0
    next_offset: int = 0


@dataclass(slots=True)
class Outcome:
    """What a batch changed; the newest per key only."""

    changed: dict[Key, Known] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    parked: list[Incoming] = field(default_factory=list)
    released: list[Incoming] = field(default_factory=list)
    opened: dict[tuple[str, str], int] = field(default_factory=dict)
    """(topic, scope) → epoch opened by this batch."""
    folded: int = 0
    repeats: int = 0
    marks: int = 0


class PartitionFold:
    """Folds one partition number. The caller supplies the states that a batch needs."""

    def __init__(
        self,
        partition: int,
        positions: Mapping[str, Position],
        opened: Mapping[tuple[str, str], int],
        parked: list[Incoming],
    ) -> None:
        self.partition = partition
        self.positions = dict(positions)
        self.opened = dict(opened)
        self._parked: dict[Key, dict[int, Incoming]] = {}
        for item in parked:
            self._park(item)

    def _park(self, item: Incoming) -> None:
        key = (component_of_state(type(item.fact.data)), item.fact.envelope.aggregate_id)
        self._parked.setdefault(key, {})[item.fact.envelope.version] = item

    @staticmethod
    def keys(batch: list[Incoming]) -> set[Key]:
        """Aggregates whose states the batch needs."""
        return {
            (component_of_state(type(i.fact.data)), i.fact.envelope.aggregate_id)
            for i in batch
            if not isinstance(i.fact.data, Barrier | EpochOpened)
        }

    def missing_before(self, batch: list[Incoming]) -> dict[str, tuple[int, int]]:
        """Topic → (offset to read from, offset of the batch's first record) where `seq` jumps."""
        first: dict[str, Incoming] = {}
        for item in batch:
            first.setdefault(item.topic, item)
        found = {}
        for topic, item in first.items():
            position = self.positions.get(topic) or Position()
            if item.fact.envelope.seq > position.seq + 1:
                found[topic] = (position.next_offset, item.offset)
        return found

    def fold(self, batch: list[Incoming], known: dict[Key, Known]) -> Outcome:
        """Fold a batch; `known` has an entry for each of `keys(batch)` and is brought up to date.

        Order: within a topic as in the log; topics do not depend on each other.
        """
        out = Outcome()
        for item in batch:
            envelope = item.fact.envelope
            position = self.positions.setdefault(item.topic, Position())
            if envelope.seq > position.seq + 1:
                out.problems.append(
                    Problem("seq_gap", item.topic, item.offset, "", envelope.event_id,
                            position.seq + 1, envelope.seq)
                )  # fmt: skip
            position.seq = max(position.seq, envelope.seq)
            position.stamp = max(position.stamp, envelope.stamp)
            position.next_offset = max(position.next_offset, item.offset + 1)
            if isinstance(item.fact.data, Barrier | EpochOpened):
                out.marks += 1
                if isinstance(item.fact.data, EpochOpened):
                    self._open(item.topic, item.fact.data, out)
                continue
            opened = self.opened.get((item.topic, envelope.scope), 0)
            if envelope.epoch < opened:
                out.problems.append(
                    Problem("fenced", item.topic, item.offset, envelope.aggregate_id,
                            envelope.event_id, opened, envelope.epoch)
                )  # fmt: skip
                continue
            self._one(item, known, out)
        return out

    def _open(self, topic: str, data: EpochOpened, out: Outcome) -> None:
        for entry in data.scopes:
            at = (topic, entry.scope)
            if entry.epoch > self.opened.get(at, 0):
                self.opened[at] = out.opened[at] = entry.epoch

    def _one(self, item: Incoming, known: dict[Key, Known], out: Outcome) -> None:
        envelope = item.fact.envelope
        key = (component_of_state(type(item.fact.data)), envelope.aggregate_id)
        have = known[key]
        if envelope.version <= have.version:
            last = envelope.version == have.version and have.event_id
            if last and have.event_id != envelope.event_id:
                out.problems.append(
                    Problem("conflict", item.topic, item.offset, envelope.aggregate_id,
                            envelope.event_id, envelope.version, envelope.version)
                )  # fmt: skip
            else:
                out.repeats += 1
            return
        if envelope.version > have.version + 1:
            self._stop_key(item, key, have, out)
            return
        if not self._step(item, key, known, out):
            return
        waiting = self._parked.get(key)
        while waiting and (following := waiting.pop(known[key].version + 1, None)):
            out.released.append(following)
            if not self._step(following, key, known, out):
                break
        if waiting is not None and not waiting:
            del self._parked[key]

    def _stop_key(self, item: Incoming, key: Key, have: Known, out: Outcome) -> None:
        envelope = item.fact.envelope
        waiting = self._parked.setdefault(key, {})
        if envelope.version in waiting:
            out.repeats += 1
            return
        if not waiting:
            out.problems.append(
                Problem("version_gap", item.topic, item.offset, envelope.aggregate_id,
                        envelope.event_id, have.version + 1, envelope.version)
            )  # fmt: skip
        waiting[envelope.version] = item
        out.parked.append(item)

    def _step(self, item: Incoming, key: Key, known: dict[Key, Known], out: Outcome) -> bool:
        envelope = item.fact.envelope
        have = known[key]
        try:
            state = evolve_fact(have.state, item.fact, self.partition)
        except IntegrityError:
            out.problems.append(
                Problem("unlawful", item.topic, item.offset, envelope.aggregate_id,
                        envelope.event_id, have.version, envelope.version)
            )  # fmt: skip
            return False
        known[key] = out.changed[key] = Known(state, envelope.version, envelope.event_id)
        out.folded += 1
        return True
