"""A node's folds of its own component: states, versions, and what was answered.

Invariants: a fact is folded once; what is staged in a batch is forgotten unless it is committed.
Memory: one state an aggregate of the home region, and the last `KEPT_ANSWERS` commands.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from everlode.errors import IntegrityError
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Fact, FactRef
from everlode.events.states import State
from everlode.log.facts import LoggedFact
from everlode.state.dispatch import component_of_state, evolve_fact

FIND_OUT = "facts are missing, or somebody else writes here: find out before going on"
KEPT_ANSWERS = 50_000
"""Commands whose answer is remembered; a repeat that is older is decided again, by the state."""

Changed = Callable[[State | None, State | None], None]
Key = tuple[str, str]
Asked = tuple[str, str]
"""Aggregate and command id: an id is its aggregate's."""


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


def _damaged(placed: LoggedFact, what: str, code: str) -> IntegrityError:
    envelope = placed.fact.envelope
    return IntegrityError(
        f"partition {placed.partition}@{placed.offset}, event {envelope.event_id}: {what}",
        code=code,
        hint=FIND_OUT,
    )


class Folds:
    """States by state component and key. `changed(old, new)` after each step."""

    def __init__(self, components: tuple[str, ...], changed: Changed) -> None:
        self.states: dict[str, dict[str, State]] = {name: {} for name in components}
        self.versions: dict[Key, int] = {}
        """Last version of deleted aggregates, whose states are gone."""
        self._last: dict[Key, str] = {}
        """Event of the last version."""
        self.answers: OrderedDict[Asked, list[Answered]] = OrderedDict()
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

    def fold(self, placed: LoggedFact) -> None:
        """Fold one fact of the own topic; repeats change nothing.

        Raises: IntegrityError: a version is missing before it (`version_gap`), or it is another
        fact than the one of its version (`conflict`); whoever folds must not lead.
        """
        fact = placed.fact
        if isinstance(fact.data, Barrier | EpochOpened):
            return
        component = component_of_state(type(fact.data))
        key = fact.envelope.aggregate_id
        known, version = self.version(component, key), fact.envelope.version
        if version > known + 1:
            raise _damaged(placed, f"{key} goes from version {known} to {version}", "version_gap")
        if version == known and self._last.get((component, key)) != fact.envelope.event_id:
            raise _damaged(placed, f"another fact is version {known} of {key}", "conflict")
        if version <= known:
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
        self._last[component, key] = last.envelope.event_id
        self.folded += 1
        self._changed(old, new)

    def answer(self, placed: LoggedFact) -> None:
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
        known = self.answers.setdefault((envelope.aggregate_id, envelope.command_id), [])
        if all(a.event_id != entry.event_id for a in known):
            known.append(entry)
        while len(self.answers) > KEPT_ANSWERS:
            self.answers.popitem(last=False)  # a plain dict is searched from its old beginning
