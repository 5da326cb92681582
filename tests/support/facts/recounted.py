"""What facts come to by the proof's own rules, which share nothing with the projector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from everlode.events.base import Fact
from everlode.projection.tables import COMPONENTS
from everlode.proof.recount import LoggedEvent, differing, recount
from everlode.state.dispatch import component_of_state

Written = tuple[str, Fact, int]
"""Component, fact, partition."""
States = Mapping[tuple[str, str], Mapping[str, Any]]
"""(state component, key) → fields."""


def differences(written: Iterable[Written], states: States) -> list[str]:
    """Where states are not what the facts, in the order of each key, lead to."""
    logged: dict[str, list[LoggedEvent]] = {c: [] for c in COMPONENTS}
    for _, fact, partition in written:
        logged[component_of_state(type(fact.data))].append(_plain(fact, partition))
    found = []
    expected = set()
    for component, events in logged.items():
        counted = recount(component, events)
        found += counted.wrong
        for key, fields in counted.found.items():
            expected.add((component, key))
            if problem := differing(fields, dict(states.get((component, key), {}))):
                found.append(f"{component} {key}: {problem}")
    return found + [f"nobody wrote {key}" for key in states.keys() - expected]


def _plain(fact: Fact, partition: int) -> LoggedEvent:
    """A fact as plain values."""
    data = fact.data.model_dump()
    data = {k: list(v) if isinstance(v, tuple) else v for k, v in data.items()}
    return LoggedEvent(type(fact.data).__name__, fact.envelope.model_dump(), data, partition)
