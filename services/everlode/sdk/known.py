"""What an EventProducer knows of its log: from the snapshot and the facts behind, as a primary.

Two ways to begin, by what the program wants to be informed of:

      restored given, or nothing      snapshot: alive ──► restored      facts behind it ──► folded
      folded alone                    the whole log ──► folded          refused once it is not whole

Invariant: what is known equals, key by key, a fold from the log's beginning. What a program appends
is its own: an aggregate that its last fact cannot follow has no state, as one that was deleted; its
versions go on. Shell: a lock, for a program's threads ask while the producer's thread folds.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

from everlode.adapters.kafka import Reader, Record
from everlode.avro.codec import Codec
from everlode.errors import IntegrityError
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Envelope, Event, Fact
from everlode.events.catalogue import EVENTS
from everlode.events.snapshots import AnsweredFact
from everlode.events.states import State
from everlode.log.facts import FactLog, LoggedFact, NewFact
from everlode.log.folds import Folds
from everlode.log.memory import Memory
from everlode.settings.endpoints import RegionParts
from everlode.snapshots.dirty import Key
from everlode.snapshots.work import Change
from everlode.state.dispatch import component_of_state, state_component
from everlode.topics.place import placed

KEPT_ACKS = 50_000
"""Facts whose Ack is remembered, as many as the snapshot holds; older ones are appended again."""
READ_S = 600.0


class Callbacks(NamedTuple):
    """A program's callbacks."""

    folded: Callable[[Fact], None] | None
    restored: Callable[[State], None] | None


class _Folds(Folds):
    """Knows facts by their own ids; bears what cannot follow."""

    def __init__(self, components: tuple[str, ...]) -> None:
        super().__init__(components, lambda *_: None)
        self.known: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """Event id → partition and offset, of the last facts."""
        self.staged: dict[str, State | None] = {}
        """Event id → what was found to follow, of facts that are being folded."""

    def evolve(self, old: State | None, fact: Fact, partition: int) -> State | None:
        if fact.envelope.event_id in self.staged:
            return self.staged[fact.envelope.event_id]
        try:
            return super().evolve(old, fact, partition)
        except Exception:  # noqa: BLE001 - whatever it is, it follows from what a program wrote
            return None

    def asked(self, envelope: Envelope) -> str:
        return envelope.event_id

    def remember(self, fact: AnsweredFact) -> bool:
        new = fact.event_id not in self.known
        self.known[fact.event_id] = fact.partition, fact.offset
        while len(self.known) > KEPT_ACKS:
            self.known.popitem(last=False)  # a plain dict is searched from its old beginning
        return new


class Known:
    """Of one producer. `begin`, then `opened` each time that the log was opened; thread-safe."""

    def __init__(self, parts: RegionParts, component: str, calls: Callbacks) -> None:
        names = (state_component(name) for name, kind in EVENTS.items() if kind.topic == component)
        self._folds = _Folds(tuple(sorted({name for name in names if name is not None})))
        self._calls, self._parts = calls, parts
        self._whole = calls.folded is not None and calls.restored is None
        self.log = FactLog(parts.bootstrap, parts.origin, component, parts.partitions, self._folded)
        self._memory = Memory(self._folds, self.log, parts)
        self._guard = threading.Lock()
        self._taken: list[Record] = []
        self._staged: dict[str, State | None] = {}
        """Of the transaction under way: see `_Folds.staged`."""

    def begin(self) -> None:
        """Take the snapshot over, and inform the program.

        Raises: Unavailable. IntegrityError: `folded` alone is given, and the log is not whole.
        """
        self._memory.start()
        self._memory.catch_up()
        if self._whole:
            self._replay()
        elif self._calls.restored is not None:
            for states in self._folds.states.values():
                for state in states.values():
                    self._calls.restored(state)

    def _replay(self) -> None:
        """Hand on the facts that the snapshot covers; the log hands on those behind it."""
        log = self.log
        if not log.is_whole():
            raise IntegrityError(
                f"{log.topic}: its first facts are gone, and `folded` alone wants them all",
                code="beginning_lost",
                hint="give `restored` too: it gets what is alive, and `folded` what came after",
            )
        ends = {(log.topic, p): end for p, end in enumerate(log.next_offsets) if end}
        codec = Codec()
        with closing(Reader(self._parts.bootstrap, f"replay-{log.topic}")) as reader:
            reader.assign(dict.fromkeys(ends, 0))
            for batch in reader.until(ends, READ_S):
                for raw in batch:
                    if raw.offset < ends[raw.topic, raw.partition]:
                        self._notify(placed(codec, raw.topic, raw.key, raw.value))

    def opened(self) -> None:
        """The log is open: what was written by then is known. Raises: Unavailable."""
        with self._guard:
            self._memory.catch_up()
            self._memory.work.lead({self._parts.region})

    def _folded(self, logged: LoggedFact) -> None:
        with self._guard:
            new = self._folds.fold(logged)
        if new or self._whole:
            self._notify(logged.fact)

    def _notify(self, fact: Fact) -> None:
        if self._calls.folded is not None and not isinstance(fact.data, Barrier | EpochOpened):
            self._calls.folded(fact)

    # -- asked -------------------------------------------------------------------------------

    def place(self, event_id: str) -> tuple[int, int] | None:
        """Partition and offset of a fact, if it is one of the last."""
        return self._folds.known.get(event_id)

    def version(self, key: str, data: Event) -> int:
        """Last version of an aggregate. Raises: Unavailable: the archive does not give it now."""
        with self._guard:
            return self._folds.version(component_of_state(type(data)), key)

    def state(self, component: str, key: str) -> State | None:
        """An aggregate's state, also of one that has ended. Raises: Unavailable. KeyError."""
        with self._guard:
            return self._folds.get(component, key)

    # -- written -----------------------------------------------------------------------------

    @property
    def behind(self) -> bool:
        """True when so much of the snapshot is due that it is written by itself."""
        return self._memory.behind

    def beside(self, facts: Sequence[NewFact]) -> list[Record]:
        """What goes into the next transaction, beside these facts."""
        self._staged = {}
        self._taken = self._memory.beside(facts, self._changes(facts))
        return self._taken

    def _changes(self, facts: Sequence[NewFact]) -> Iterator[Change]:
        """What these facts will make of their aggregates; `committed` takes it over.

        An ended one is not looked for in the archive: nothing follows that concerns a miner.
        """
        found: dict[Key, Change] = {}
        for partition, envelope, data in facts:
            name = state_component(type(data).__name__)
            if name is None:
                continue
            key = name, envelope.aggregate_id
            if key not in found:
                before = dict.get(self._folds.states[name], key[1])
                found[key] = before, before
            old, now = found[key]
            new = self._folds.evolve(now, Fact(envelope, data), partition)
            found[key], self._staged[envelope.event_id] = (old, new), new
        yield from found.values()

    def rest(self) -> list[Record]:
        """What goes into the next transaction of a producer that leaves; empty at the end."""
        self._taken = self._memory.rest()
        return self._taken

    def committed(self, facts: Sequence[tuple[int, Envelope, Event]], offsets: list[int]) -> None:
        """These facts, and what was taken last, stand at these offsets."""
        with self._guard:
            self._memory.committed(offsets[len(facts) :], {})
            self._folds.staged, self._staged = self._staged, {}
            for (partition, envelope, data), offset in zip(facts, offsets, strict=False):
                self._folds.fold(LoggedFact(Fact(envelope, data), partition, offset))
            self._folds.staged = {}

    def close(self) -> None:
        """Leave."""
        self.log.close()
        self._memory.close()
