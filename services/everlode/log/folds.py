"""A writer's folds of its own component: states, versions, and what was answered.

Invariants: a fact is folded once; what is staged in a batch is forgotten unless it is committed;
what has ended and left the memory is found in the archive.
Memory: one state an aggregate that is alive, and as many of the last
commands, and of what has ended, as `AtHand` says.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from everlode.errors import IntegrityError
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Envelope, Fact
from everlode.events.snapshots import AnsweredFact
from everlode.events.states import State
from everlode.log.contents import ANSWERS_AT_HAND, Asked, Contents
from everlode.log.facts import LoggedFact
from everlode.snapshots.archive import ENDED_AT_HAND, Find, Kept, nothing
from everlode.snapshots.dirty import Dirty, FactAt, Key
from everlode.snapshots.past import Past
from everlode.snapshots.read import Alive
from everlode.state.dispatch import component_of_state, evolve_fact
from everlode.state.ended import ended

FIND_OUT = "facts are missing, or somebody else writes here: find out before going on"

Changed = Callable[[State | None, State | None], None]


class AtHand(NamedTuple):
    """How much of what is over a writer has at hand."""

    ended: int = ENDED_AT_HAND
    """Ended aggregates."""
    answers: int = ANSWERS_AT_HAND
    """Commands with their answers."""


class Answered(NamedTuple):
    """One fact of a command."""

    event_id: str
    event_type: str
    partition: int
    offset: int
    seq: int
    version: int
    topic: str = ""
    """Where it stands, when that is not the writer's own topic."""

    def ref(self, topic: str) -> dict[str, object]:
        """The fields of a FactRef, as they stand in an answer."""
        return {**self._asdict(), "topic": self.topic or topic}


def _damaged(placed: LoggedFact, what: str, code: str) -> IntegrityError:
    envelope = placed.fact.envelope
    return IntegrityError(
        f"partition {placed.partition}@{placed.offset}, event {envelope.event_id}: {what}",
        code=code,
        hint=FIND_OUT,
    )


class States(dict[str, State]):
    """States of one component that are in memory; `get` finds an ended one, too."""

    def __init__(self, find: Callable[[str], Kept | None]) -> None:
        super().__init__()
        self._find = find

    def get(self, key: str, default: object = None) -> State | None:  # type: ignore[override]
        """A state, or None. Raises: Unavailable: the archive does not give it now."""
        found = super().get(key)
        if found is None:
            ended = self._find(key)
            found = ended.state if ended is not None else None
        return found


class Folds:
    """States by state component and key. `changed(old, new)` after each step."""

    def __init__(self, components: tuple[str, ...], changed: Changed) -> None:
        self.at_hand = AtHand()
        self.find: Find = nothing
        """Where ended aggregates are found."""
        self.states: dict[str, States] = {name: self._states(name) for name in components}
        self.versions: dict[Key, int] = {}
        """Last version of deleted aggregates, whose states are gone."""
        self._last: dict[Key, str] = {}
        """Event of the last version."""
        self.answers: OrderedDict[Asked, list[Answered]] = OrderedDict()
        self.contents = Contents()
        """What was asked for under the ids of these commands, where that is known."""
        self.folded = 0
        """Facts folded since the start."""
        self.dirty = Dirty(time.monotonic)
        """What is not in the snapshot yet."""
        self.past = Past()
        """What has ended says of miners."""
        self.may_leave: Callable[[State], bool] = lambda _: True
        """Of what has ended: whether nobody is about to look for it."""
        self.left: Callable[[State], None] = lambda _: None
        """Notified of a state that has left the memory."""
        self.answered: Callable[[AnsweredFact], None] = lambda _: None
        """Notified of each fact of a command."""
        self._changed = changed

    def keep(self, at_hand: AtHand) -> None:
        """Have so much at hand; before anything is folded."""
        self.at_hand = at_hand
        self.contents = Contents(at_hand.answers)

    def _states(self, component: str) -> States:
        return States(lambda key: self._archived(component, key))

    def _archived(self, component: str, key: str) -> Kept | None:
        """As the archive has it; one that was deleted since is not what stands there."""
        return None if (component, key) in self.versions else self.find(component, key)

    def get(self, component: str, key: str) -> State | None:
        """A state, or None. Raises: Unavailable: the archive does not give it now."""
        return self.states[component].get(key)

    def look(self, component: str, key: str) -> tuple[State | None, int]:
        """State and version of an aggregate, as `get` and `version`; the archive is asked once."""
        version, _, state = self._known(component, key)
        return state, version

    def version(self, component: str, key: str) -> int:
        """Last version of an aggregate; 0 when it never was. Raises: Unavailable."""
        return self._known(component, key)[0]

    def entry(self, component: str, key: str) -> Kept | None:
        """As `look`, with the id of its last fact; None of what never was. Raises: Unavailable."""
        version, last, state = self._known(component, key)
        return Kept(version, last or "", state) if version else None

    def _known(self, component: str, key: str) -> tuple[int, str | None, State | None]:
        """Version of an aggregate, the id of its last fact, and its state."""
        state = dict.get(self.states[component], key)
        last = self._last.get((component, key))
        if state is not None:
            return state.version, last, state
        deleted = self.versions.get((component, key))
        if deleted is not None:
            return deleted, last, None
        ended = self.find(component, key)
        return (0, None, None) if ended is None else (ended.version, ended.event_id, ended.state)

    def fold(self, placed: LoggedFact) -> bool:
        """Fold one fact of the own topic; False when it was folded before, and changes nothing.

        Raises: IntegrityError: a version is missing before it (`version_gap`), or it is another
        fact than the one of its version (`conflict`); whoever folds must not lead.
        """
        fact = placed.fact
        if isinstance(fact.data, Barrier | EpochOpened):
            return False
        component = component_of_state(type(fact.data))
        key = fact.envelope.aggregate_id
        known, last, old = self._known(component, key)
        version = fact.envelope.version
        if version > known + 1:
            raise _damaged(placed, f"{key} goes from version {known} to {version}", "version_gap")
        if version == known and last != fact.envelope.event_id:
            raise _damaged(placed, f"another fact is version {known} of {key}", "conflict")
        if version <= known:
            self.answer(placed)  # in the snapshot, but perhaps not its answer
            return False
        at = FactAt(placed.partition, placed.offset, fact.envelope.seq)
        self.put(component, key, self.evolve(old, fact, placed.partition), fact, (at, at.offset))
        self.answer(placed)
        return True

    def evolve(self, old: State | None, fact: Fact, partition: int) -> State | None:
        """The state after a fact; None deletes. Raises: IntegrityError: it cannot follow."""
        return evolve_fact(old, fact, partition)

    def put(
        self,
        component: str,
        key: str,
        new: State | None,
        last: Fact,
        at: tuple[FactAt, int],
    ) -> None:
        """Take a new state over; None deletes. `at`: its first new fact, the last one's offset."""
        old = dict.get(self.states[component], key)
        if old is None and last.envelope.version > 1 and not self.holds((component, key)):
            old = self.states[component].get(key)
            if old is not None:
                self.past.returned(old)
        if new is None:
            self.states[component].pop(key, None)
            self.versions[component, key] = last.envelope.version
        else:
            self.states[component][key] = new
        self._last[component, key] = last.envelope.event_id
        self.dirty.note((component, key), *at)
        self.folded += 1
        self._changed(old, new)

    def answer(self, placed: LoggedFact) -> None:
        """Remember a fact under what asked for it."""
        envelope = placed.fact.envelope
        asked = self.asked(envelope)
        if asked is None:
            return
        entry = AnsweredFact(
            envelope.aggregate_id,
            asked,
            envelope.event_id,
            type(placed.fact.data).__name__,
            placed.partition,
            placed.offset,
            envelope.seq,
            envelope.version,
            self.contents.of((envelope.aggregate_id, asked)),
        )
        if self.remember(entry):
            self.answered(entry)

    def asked(self, envelope: Envelope) -> str | None:
        """Id of what asked for a fact, its command; None when nobody will ask again."""
        return envelope.command_id

    def remember(self, fact: AnsweredFact) -> bool:
        """False when it is known."""
        asked = fact.aggregate_id, fact.command_id
        self.contents.note(asked, fact.content)
        known = self.answers.setdefault(asked, [])
        if known and any(a.event_id == fact.event_id for a in known):
            return False
        known.append(Answered(*fact[2:-1]))
        while len(self.answers) > self.at_hand.answers:
            self.answers.popitem(last=False)  # a plain dict is searched from its old beginning
        return True

    # -- the snapshot ------------------------------------------------------------------------

    def restore(self, alive: Iterable[Alive], answers: Iterable[AnsweredFact]) -> None:
        """Take over what a snapshot holds, aggregates by stamp; before any fact is folded."""
        for component, event_id, state in alive:
            self.states[component][state.key] = state
            self._last[component, state.key] = event_id
            self._changed(None, state)
        for fact in answers:
            self.remember(fact)

    def adopt(self, others: Folds, topic: str) -> int:
        """Take over what another region's facts on `topic` came to; returns of how many aggregates.

        What is known here in the same version, or a later one, stays. Raises: Unavailable.
        """
        count = 0
        for key, last in others._last.items():
            component, aggregate = key
            state = dict.get(others.states[component], aggregate)
            version = others.versions[key] if state is None else state.version
            if self.version(component, aggregate) >= version:
                continue
            count += 1
            old = dict.get(self.states[component], aggregate)
            self._last[key] = last
            if state is None:
                self.states[component].pop(aggregate, None)
                self.versions[key] = version
            else:
                self.states[component][aggregate] = state
            self._changed(old, state)
        for asked, facts in others.answers.items():
            self.answers.setdefault(asked, [a._replace(topic=a.topic or topic) for a in facts])
        return count

    def forget(self, home: str) -> None:
        """Whatever is at home there is not decided here any more."""
        for component, states in self.states.items():
            for key, state in [(k, s) for k, s in states.items() if s.home == home]:
                del states[key]
                self._last.pop((component, key), None)
                self.dirty.forget((component, key))
                self._changed(state, None)

    def holds(self, key: Key) -> bool:
        """True for what is in memory."""
        return key in self._last

    def ended(self) -> Iterator[tuple[Key, int]]:
        """What is in memory and has ended, each with its partition."""
        for component, states in self.states.items():
            for key, state in states.items():
                if ended(state):
                    yield (component, key), state.partition

    def kept(self, key: Key) -> Kept:
        """An aggregate in memory, as it is now."""
        state = dict.get(self.states[key[0]], key[1])
        version = state.version if state is not None else self.versions[key]
        return Kept(version, self._last[key], state)

    def evict(self, key: Key) -> None:
        """It has ended and is in the archive: forget it here."""
        state = self.states[key[0]].pop(key[1], None)
        self.past.left(key[1])
        if state is not None:
            self.left(state)
        self.versions.pop(key, None)
        self._last.pop(key, None)
        self.dirty.forget(key)
