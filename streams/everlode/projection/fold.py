"""The fold of one partition number over all fact topics, batch by batch.

A partition number (the same of every fact topic of every origin) is folded by one projector at a
time. Rules, per record: version n+1 follows n; the version that is there again is a repeat when
it has the same id, and a conflict when not, as is an older one with a later stamp; a gap in a
key's versions stops that key alone, until what is missing arrives; an epoch that the control log
does not know yet stops that key alone, and what follows of it waits in order, so that the outcome
does not hang on which log came first; a lower epoch after its scope's EpochOpened is fenced; a gap
in `seq` is noted. Nothing is skipped silently: every record is folded, repeated, parked or a
Problem. Pure, but for its own memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from everlode.errors import IntegrityError
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Envelope, Fact
from everlode.events.states import State
from everlode.state.dispatch import component_of_state, evolve_fact

Key = tuple[str, str]
"""(state component, aggregate id)."""


Epochs = Mapping[str, int]
"""Scope → the highest epoch that the folded control log has decided."""


class Known(NamedTuple):
    """What is known of an aggregate: its state (None when deleted), last version and event id.

    An empty `event_id` is unknown: a state that came from a backup.
    """

    state: State | None
    version: int
    event_id: str


UNKNOWN = Known(None, 0, "")
_MARKS = frozenset({Barrier, EpochOpened})


class Incoming(NamedTuple):
    """A fact as it was read, with its place in this cluster."""

    topic: str
    offset: int
    fact: Fact
    value: bytes


class Problem(NamedTuple):
    """Something that must not be passed over.

    `kind`: seq_gap, version_gap, conflict, fenced, unlawful, unknown_epoch.
    """

    kind: str
    topic: str
    offset: int
    key: str
    event_id: str
    expected: int
    found: int


@dataclass(slots=True)
class Prefix:
    """How much of one topic of this partition number has been applied; `seq` 0: nothing."""

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
    deleted: dict[Key, Incoming] = field(default_factory=dict)
    """What has been deleted, by which fact: there is no state left to say it."""
    folded: int = 0
    repeats: int = 0
    marks: int = 0


def _key(item: Incoming) -> Key:
    return component_of_state(type(item.fact.data)), item.fact.envelope.aggregate_id


def _may(item: Incoming, epochs: Epochs | None) -> bool:
    """Whether the fact's epoch has been decided."""
    envelope = item.fact.envelope
    return epochs is None or envelope.epoch <= epochs.get(envelope.scope, 0)


class PartitionFold:
    """Folds one partition number. The caller supplies the states that a batch needs."""

    def __init__(
        self,
        partition: int,
        positions: Mapping[str, Prefix],
        opened: Mapping[tuple[str, str], int],
        parked: list[Incoming],
    ) -> None:
        self.partition = partition
        self.positions = dict(positions)
        self.opened = dict(opened)
        self._parked: dict[Key, dict[int, Incoming]] = {}
        """Behind a gap in versions."""
        self._held: dict[Key, list[Incoming]] = {}
        """From the first of an unknown epoch on, in log order; so is what an owner before left."""
        for item in parked:
            self._held.setdefault(_key(item), []).append(item)
        self._noted = set(self._held)
        """Keys whose stop the owner before has recorded."""

    @staticmethod
    def keys(batch: list[Incoming]) -> set[Key]:
        """Aggregates whose states the batch needs."""
        return {
            (component_of_state(kind), envelope.aggregate_id)
            for _, _, (envelope, data), _ in batch
            if (kind := type(data)) not in _MARKS
        }

    def releasable(self, epochs: Epochs | None) -> set[Key]:
        """Aggregates that need not wait any more; `fold` goes on with those that it is given."""
        return {key for key, items in self._held.items() if _may(items[0], epochs)}

    def missing_before(self, batch: list[Incoming]) -> dict[str, tuple[int, int]]:
        """Topic → (offset to read from, offset of the batch's first record) where `seq` jumps."""
        first: dict[str, Incoming] = {}
        for item in batch:
            first.setdefault(item.topic, item)
        found = {}
        for topic, item in first.items():
            position = self.positions.get(topic) or Prefix()
            if item.fact.envelope.seq > position.seq + 1:
                found[topic] = (position.next_offset, item.offset)
        return found

    def fold(
        self,
        batch: list[Incoming],
        known: dict[Key, Known],
        epochs: Epochs | None = None,
        out: Outcome | None = None,
    ) -> Outcome:
        """Fold a batch; `known` has, or gives, each of its aggregates, and is brought up to date.

        `epochs` is what the control log has decided; without it every epoch counts as decided.
        Order: within a topic as in the log; topics do not depend on each other.
        """
        out = out or Outcome()
        for key in self.releasable(epochs) & known.keys():
            self._go_on(key, known, epochs, out)
        for item in batch:
            topic, offset, (envelope, data), _ = item
            self._move(topic, offset, envelope, out)
            if type(data) in _MARKS:
                out.marks += 1
                if isinstance(data, EpochOpened):
                    self._open(topic, data, out)
                continue
            opened = self.opened.get((topic, envelope.scope), 0)
            if envelope.epoch < opened:
                out.problems.append(
                    Problem("fenced", topic, offset, envelope.aggregate_id,
                            envelope.event_id, opened, envelope.epoch)
                )  # fmt: skip
                continue
            key = (component_of_state(type(data)), envelope.aggregate_id)
            if key in self._held or not _may(item, epochs):
                self._hold(item, key, epochs, out)
                continue
            self._one(item, key, known, out)
        return out

    def _move(self, topic: str, offset: int, envelope: Envelope, out: Outcome) -> None:
        """Note where the topic stands after a record, and what is missing before it."""
        position = self.positions.get(topic)
        if position is None:
            position = self.positions[topic] = Prefix()
        seq, stamp = envelope.seq, envelope.stamp
        if seq > position.seq:
            if seq > position.seq + 1:
                out.problems.append(
                    Problem("seq_gap", topic, offset, "", envelope.event_id, position.seq + 1, seq)
                )
            position.seq = seq
        if stamp > position.stamp:
            position.stamp = stamp
        if offset >= position.next_offset:
            position.next_offset = offset + 1

    def _hold(self, item: Incoming, key: Key, epochs: Epochs | None, out: Outcome) -> None:
        envelope = item.fact.envelope
        waiting = self._held.setdefault(key, [])
        if any((i.topic, i.offset) == (item.topic, item.offset) for i in waiting):
            out.repeats += 1
            return
        if not waiting:
            decided = (epochs or {}).get(envelope.scope, 0)
            out.problems.append(
                Problem("unknown_epoch", item.topic, item.offset, envelope.aggregate_id,
                        envelope.event_id, decided, envelope.epoch)
            )  # fmt: skip
        waiting.append(item)
        out.parked.append(item)

    def _go_on(
        self, key: Key, known: dict[Key, Known], epochs: Epochs | None, out: Outcome
    ) -> None:
        """Go on with what waited, up to the next of an unknown epoch."""
        waiting = self._held[key]
        while waiting and _may(waiting[0], epochs):
            item = waiting.pop(0)
            self._one(item, key, known, out)
            if self._parked.get(key, {}).get(item.fact.envelope.version) is not item:
                out.released.append(item)
        if not waiting:
            del self._held[key]
            self._noted.discard(key)

    def _open(self, topic: str, data: EpochOpened, out: Outcome) -> None:
        for entry in data.scopes:
            at = (topic, entry.scope)
            if entry.epoch > self.opened.get(at, 0):
                self.opened[at] = out.opened[at] = entry.epoch

    def _one(self, item: Incoming, key: Key, known: dict[Key, Known], out: Outcome) -> None:
        envelope = item.fact.envelope
        have, version = known[key], envelope.version
        if version == have.version + 1:
            if self._step(item, key, have, known, out) and key in self._parked:
                self._release(key, known, out)
        elif version > have.version:
            self._stop_key(item, key, have, out)
        elif version == have.version and have.event_id not in ("", envelope.event_id):
            self._conflict(item, out)
        elif have.state is not None and envelope.stamp > have.state.stamp:
            self._conflict(item, out)  # a writer that did not know what there is: no repeat
        else:
            out.repeats += 1

    def _conflict(self, item: Incoming, out: Outcome) -> None:
        """A version that is there, or waits, with another id: the first stays."""
        envelope = item.fact.envelope
        out.problems.append(
            Problem("conflict", item.topic, item.offset, envelope.aggregate_id,
                    envelope.event_id, envelope.version, envelope.version)
        )  # fmt: skip

    def _release(self, key: Key, known: dict[Key, Known], out: Outcome) -> None:
        """Fold what waited for the version that a key has reached."""
        waiting = self._parked[key]
        while following := waiting.pop(known[key].version + 1, None):
            out.released.append(following)
            if not self._step(following, key, known[key], known, out):
                break
        if not waiting:
            del self._parked[key]

    def _stop_key(self, item: Incoming, key: Key, have: Known, out: Outcome) -> None:
        envelope = item.fact.envelope
        waiting = self._parked.setdefault(key, {})
        there = waiting.get(envelope.version)
        if there is not None:
            if there.fact.envelope.event_id == envelope.event_id:
                out.repeats += 1
            else:
                self._conflict(item, out)
            return
        if not waiting and key not in self._noted:
            out.problems.append(
                Problem("version_gap", item.topic, item.offset, envelope.aggregate_id,
                        envelope.event_id, have.version + 1, envelope.version)
            )  # fmt: skip
        waiting[envelope.version] = item
        out.parked.append(item)

    def _step(
        self, item: Incoming, key: Key, have: Known, known: dict[Key, Known], out: Outcome
    ) -> bool:
        fact = item.fact
        envelope = fact.envelope
        try:
            state = evolve_fact(have.state, fact, self.partition)
        except IntegrityError:
            out.problems.append(
                Problem("unlawful", item.topic, item.offset, envelope.aggregate_id,
                        envelope.event_id, have.version, envelope.version)
            )  # fmt: skip
            return False
        if state is None:
            out.deleted[key] = item
        known[key] = out.changed[key] = Known(state, envelope.version, envelope.event_id)
        out.folded += 1
        return True
