"""A node's folds of its own component: states, versions, and what was answered.

Invariants: a fact is folded once; what is staged in a batch is forgotten unless it is committed.
Memory: one state an aggregate of the home region, and the last `KEPT_ANSWERS` commands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Fact, FactRef
from everlode.events.states import State
from everlode.sdk.facts import Placed
from everlode.state.dispatch import component_of_state, evolve_fact

KEPT_ANSWERS = 50_000
"""Commands whose answer is remembered; a repeat that is older is decided again, to no effect."""

Changed = Callable[[State | None, State | None], None]
Key = tuple[str, str]


class Answered(NamedTuple):
    """One fact of a command."""

    event_id: str
    event_type: str
    partition: int
    offset: int
    seq: int
    version: int

    def ref(self, topic: str) -> FactRef:
        """As it stands in an answer."""
        return FactRef(topic=topic, **self._asdict())


class Folds:
    """States by state component and key. `changed(old, new)` after each step."""

    def __init__(self, components: tuple[str, ...], changed: Changed) -> None:
        self.states: dict[str, dict[str, State]] = {name: {} for name in components}
        self.versions: dict[Key, int] = {}
        """Last version of deleted aggregates, whose states are gone."""
        self.answers: dict[str, list[Answered]] = {}
        self.folded = 0
        """Facts folded since the start."""
        self._changed = changed

    def get(self, component: str, key: str) -> State | None:
        """A state, or None."""
        return self.states[component].get(key)

    def version(self, component: str, key: str) -> int:
        """Last version of an aggregate; 0 when it never was."""
        state = self.states[component].get(key)
        return state.version if state is not None else self.versions.get((component, key), 0)

    def fold(self, placed: Placed) -> None:
        """Fold one fact of the own topic; repeats change nothing. Raises: IntegrityError."""
        fact = placed.fact
        if isinstance(fact.data, Barrier | EpochOpened):
            return
        component = component_of_state(type(fact.data))
        key = fact.envelope.aggregate_id
        if fact.envelope.version <= self.version(component, key):
            return
        old = self.states[component].get(key)
        self.put(component, key, evolve_fact(old, fact, placed.partition), fact)
        self.answer(placed)

    def put(self, component: str, key: str, new: State | None, last: Fact) -> None:
        """Take a new state over; None deletes."""
        old = self.states[component].get(key)
        if new is None:
            self.states[component].pop(key, None)
            self.versions[component, key] = last.envelope.version
        else:
            self.states[component][key] = new
        self.folded += 1
        self._changed(old, new)

    def answer(self, placed: Placed) -> None:
        """Remember a fact under its command."""
        envelope = placed.fact.envelope
        if envelope.command_id is None:
            return
        entry = Answered(
            envelope.event_id,
            type(placed.fact.data).__name__,
            placed.partition,
            placed.offset,
            envelope.seq,
            envelope.version,
        )
        known = self.answers.setdefault(envelope.command_id, [])
        if all(a.event_id != entry.event_id for a in known):
            known.append(entry)
        while len(self.answers) > KEPT_ANSWERS:
            del self.answers[next(iter(self.answers))]
