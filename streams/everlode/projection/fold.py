"""The fold of one partition number over all fact topics, batch by batch.

Theory of operation. A partition number (the same of every fact topic of every origin) is folded by
one projector at a time. What it reads is not clean: records come again after a crash, are missing
after a loss, come from a primary that has been deposed, or before the decision that made their
writer primary is known. Two counts and one term tell these apart:

- `seq` counts the records of a topic's partition, whoever they concern. A jump says that records
  are missing, and not whose; the caller reads them again where it can (`missing_before`).
- `version` counts the facts of one aggregate. It says which fact is next; a jump stops that key
  alone, for nothing may be folded out of order, and all other keys go on.
- `epoch` is the term of the writer. The topic itself says which epochs are over (EpochOpened, from
  the successor), the control log which have begun. Between the two a fact has effect.

Each record takes the first of these that fits; nothing is passed over silently:

1. *Prefix.* The topic's `seq`, stamp and offset move on; a jump in `seq` is noted (`seq_gap`).
2. *Mark.* A Barrier does no more. EpochOpened ends the lower epochs of its scopes in this topic.
3. *Fenced.* The fact's epoch is over: it has no effect (`fenced`). Nor has a fact about what is at
   home elsewhere, by its id (`foreign_home`): its home's primary alone says what becomes of it.
   Nor has one above the accepted vector of a fenced region (`above_vector`), whatever its epoch,
   up to where its log ended when it returned. If that is not known yet, one of an epoch that is
   not known either is of a region that has returned: who is fenced leads in none that is newer.
4. *Held.* Its epoch is not decided, as far as the control log was read, or its key waits for such
   a one: it waits in log order (`unknown_epoch`), and goes on once the epoch is decided. So the
   outcome does not hang on which of the two logs was read first. So does one of a fenced region
   until it is decided what counts of it, one of a new owner until that has come, and one of a
   scope that is at home again until what was made of it elsewhere has (`bounds`).
5. *Folded.* Its version is the next: `evolve` gives the new state, or refuses (`unlawful`); then
   what was parked behind it follows.
6. *Parked.* Its version is a later one: its key stops until what is missing comes (`version_gap`).
7. *Conflict.* Its version is there with another id, or it is older and yet has a later stamp: its
   writer did not know what there is. The first one stays (`conflict`).
8. *Repeat.* Anything else was folded before.

A fact that folds, but whose state no store takes, is named by the caller (`refused`). When its turn
comes it is parked as in 6, and its key with it: nothing can come that would fill that gap.

The control log has decided epoch 2 of the topic's scope; seq 3 is read late, from `missing_before`:

    seq  epoch  fact          becomes
    ---  -----  ------------  --------------------------------------------------
     1     1    t1 version 1  folded
     2     1    t2 version 1  folded
     4     1    t1 version 3  (1) seq_gap, 3 is missing; (6) version_gap, parked
     5     1    t2 version 2  folded: t1 alone has stopped
     3     1    t1 version 2  (5) folded, and version 3 after it
     5     1    t2 version 2  (8) a repeat
     6     2    EpochOpened   (2) epoch 1 is over
     7     1    t2 version 3  (3) fenced
     8     3    t2 version 3  (4) unknown_epoch, held
     9     3    t2 version 4  (4) held behind it

Pure, but for its own memory.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from everlode.errors import EverlodeError, IntegrityError
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Envelope
from everlode.projection.bounds import FREE, Bounds
from everlode.projection.records import (
    UNKNOWN,
    Epochs,
    Incoming,
    Key,
    Known,
    Outcome,
    Prefix,
    Problem,
)
from everlode.state.dispatch import component_of_state, evolve_fact
from everlode.state.homes import strays

__all__ = [
    "UNKNOWN",
    "Epochs",
    "Incoming",
    "Key",
    "Known",
    "Outcome",
    "PartitionFold",
    "Prefix",
    "Problem",
]

_MARKS = frozenset({Barrier, EpochOpened})


def _key(item: Incoming) -> Key:
    return component_of_state(type(item.fact.data)), item.fact.envelope.aggregate_id


def _unexpected(error: Exception) -> IntegrityError:
    return IntegrityError(f"cannot be folded: {type(error).__name__}", code="unlawful")


class PartitionFold:
    """Folds one partition number. The caller supplies the states that a batch needs."""

    def __init__(
        self,
        partition: int,
        positions: Mapping[str, Prefix],
        opened: Mapping[tuple[str, str], int],
        parked: list[Incoming],
        regions: Container[str],
    ) -> None:
        """`regions`: all of the network."""
        self.partition = partition
        self._regions = regions
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
        self.refused: set[tuple[str, int]] = set()
        """(topic, offset) of facts that cannot be applied: whoever notes them adds them here."""
        self.fenced_at: dict[str, int] = {}
        """Topic of a fenced region → the `seq` that it stood at when this projection learnt of it;
        the caller gives back what an owner before has noted (`fence_known`)."""
        self._bounds = FREE
        self._news: list[Problem] = []

    def bound(self, now: Bounds) -> None:
        """What counts of fenced regions from now on; given before each batch.

        A topic of which more was folded than counts, because nobody here knew of the fence yet, is
        a problem of the next batch, `folded_above`: the projection is to be built anew.
        """
        if now is self._bounds:
            return
        for topic, upto in now.upto.items():
            stood = self.fenced_at.get(topic)
            if stood is None:
                stood = self.fenced_at[topic] = (self.positions.get(topic) or Prefix()).seq
                self._news.append(Problem("fence_known", topic, 0, "", "", 0, stood))
            if upto is not None and stood > upto and self._bounds.upto.get(topic) is None:
                self._news.append(Problem("folded_above", topic, 0, "", "", upto, stood))
        self._bounds = now
        for key, items in self._held.items():
            self._held[key] = []
            for item in items:
                self._queue(self._held[key], item)

    def _may(self, item: Incoming, epochs: Epochs | None) -> bool:
        """Whether the fact's epoch has been decided, and what counts before it has come."""
        envelope = item.fact.envelope
        if self._undecided(item, epochs):
            return False
        upto, after, _ = self._bounds
        if not upto:
            return True
        if upto.get(item.topic, 0) is None:
            return False
        for epoch, topic, counts in after.get(envelope.scope, ()):
            if envelope.epoch < epoch or item.topic == topic:
                continue
            stands = self.positions.get(topic)
            if counts is None or (stands.seq if stands else 0) < counts:
                return False
        return True

    @staticmethod
    def _undecided(item: Incoming, epochs: Epochs | None) -> bool:
        envelope = item.fact.envelope
        return epochs is not None and envelope.epoch > epochs.get(envelope.scope, 0)

    def _above(self, item: Incoming, epochs: Epochs | None, out: Outcome) -> bool:
        """Whether a record of a fenced region does not count; a fact is noted."""
        upto, seq = self._bounds.upto.get(item.topic), item.fact.envelope.seq
        if upto is None or seq <= upto:
            return False
        ended = self._bounds.ended.get(item.topic)
        if seq > ended if ended is not None else self._undecided(item, epochs):
            return False
        if type(item.fact.data) not in _MARKS:
            out.note("above_vector", item, upto, seq)
        return True

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
        return {key for key, items in self._held.items() if self._may(items[0], epochs)}

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
        out.problems += self._news
        self._news.clear()
        for key in self.releasable(epochs) & known.keys():  # 4. the epoch was decided since
            self._go_on(key, known, epochs, out)
        for item in batch:
            topic, offset, (envelope, data), _ = item
            self._move(topic, offset, envelope, out)  # 1. position
            if self._bounds is not FREE and self._above(item, epochs, out):  # 3. fenced
                continue
            if type(data) in _MARKS:  # 2. mark
                out.marks += 1
                if isinstance(data, EpochOpened):
                    self._open(topic, envelope.seq, data, out)
                continue
            opened = self.opened.get((topic, envelope.scope), 0)
            if envelope.epoch < opened:  # 3. fenced
                out.note("fenced", item, opened, envelope.epoch)
                continue
            if strays(envelope, self._regions):
                out.note("foreign_home", item, 0, envelope.version)
                continue
            key = (component_of_state(type(data)), envelope.aggregate_id)
            if key in self._held or not self._may(item, epochs):  # 4. held
                self._hold(item, key, epochs, out)
                continue
            self._one(item, key, known, out)  # 5. to 8.
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
            out.note("unknown_epoch", item, decided, envelope.epoch)
        self._queue(waiting, item)
        out.parked.append(item)

    def _queue(self, waiting: list[Incoming], item: Incoming) -> None:
        """In log order, but before what a new owner made of it."""
        after, own = self._bounds.after, item.fact.envelope.epoch
        for index, other in enumerate(waiting):
            envelope = other.fact.envelope
            for epoch, topic, _ in after.get(envelope.scope, ()):
                if own < epoch <= envelope.epoch and other.topic != topic == item.topic:
                    waiting.insert(index, item)
                    return
        waiting.append(item)

    def _go_on(
        self, key: Key, known: dict[Key, Known], epochs: Epochs | None, out: Outcome
    ) -> None:
        """Go on with what waited, up to the next of an unknown epoch."""
        waiting = self._held[key]
        while waiting and self._may(waiting[0], epochs):
            item = waiting.pop(0)
            if self._above(item, epochs, out):
                out.released.append(item)
                continue
            self._one(item, key, known, out)
            if self._parked.get(key, {}).get(item.fact.envelope.version) is not item:
                out.released.append(item)
        if not waiting:
            del self._held[key]
            self._noted.discard(key)

    def _open(self, topic: str, seq: int, data: EpochOpened, out: Outcome) -> None:
        for entry in data.scopes:
            at = (topic, entry.scope)
            if entry.epoch > self.opened.get(at, 0):
                self.opened[at] = out.opened[at] = entry.epoch
                out.openings[topic, entry.scope, entry.epoch] = seq

    def _one(self, item: Incoming, key: Key, known: dict[Key, Known], out: Outcome) -> None:
        envelope = item.fact.envelope
        have, version = known[key], envelope.version
        if version == have.version + 1:  # 5. folded
            if self.refused and self._stops(item, key):
                self._park(item, key, have, out)
            elif self._step(item, key, have, known, out) and key in self._parked:
                self._release(key, known, out)
        elif version > have.version:  # 6. parked
            self._park(item, key, have, out)
        elif version == have.version and have.event_id not in ("", envelope.event_id):
            self._conflict(item, out)  # 7. conflict: another id
        elif have.state is not None and envelope.stamp > have.state.stamp:
            self._conflict(item, out)  # 7. conflict: older, and yet later
        else:
            out.repeats += 1  # 8. repeat

    def _stops(self, item: Incoming, key: Key) -> bool:
        """Whether the fact, or one that waits in its place, is refused: the key stops there."""
        refused = (item.topic, item.offset) in self.refused
        return refused or item.fact.envelope.version in self._parked.get(key, ())

    def _conflict(self, item: Incoming, out: Outcome) -> None:
        """A version that is there, or waits, with another id: the first stays."""
        version = item.fact.envelope.version
        out.note("conflict", item, version, version)

    def _release(self, key: Key, known: dict[Key, Known], out: Outcome) -> None:
        """Fold what waited for the version that a key has reached."""
        waiting = self._parked[key]
        while following := waiting.get(known[key].version + 1):
            if (following.topic, following.offset) in self.refused:
                break
            del waiting[known[key].version + 1]
            out.released.append(following)
            if not self._step(following, key, known[key], known, out):
                break
        if not waiting:
            del self._parked[key]

    def _park(self, item: Incoming, key: Key, have: Known, out: Outcome) -> None:
        envelope = item.fact.envelope
        waiting = self._parked.setdefault(key, {})
        there = waiting.get(envelope.version)
        if there is not None:
            if there.fact.envelope.event_id == envelope.event_id:
                out.repeats += 1
            else:
                self._conflict(item, out)
            return
        gap = envelope.version > have.version + 1
        if gap and not waiting and key not in self._noted:
            out.note("version_gap", item, have.version + 1, envelope.version)
        waiting[envelope.version] = item
        out.parked.append(item)

    def _step(
        self, item: Incoming, key: Key, have: Known, known: dict[Key, Known], out: Outcome
    ) -> bool:
        fact = item.fact
        envelope = fact.envelope
        try:
            state = evolve_fact(have.state, fact, self.partition)
        except Exception as error:  # noqa: BLE001 - pure: it follows from this fact alone
            why = error if isinstance(error, EverlodeError) else _unexpected(error)
            out.note("unlawful", item, have.version, envelope.version)
            out.unlawful.append((item, why))
            return False
        if state is None:
            out.deleted[key] = item
        known[key] = out.changed[key] = Known(state, envelope.version, envelope.event_id)
        out.folded += 1
        if out.traced:
            out.steps.append(item)
        return True
