"""What all five aggregates share: the context of a decision, and one fold step.

Invariants: a state names the event that made it (key, epoch, version, stamp, origin, partition,
seq); a decision reads no clock, no ids and no randomness. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from everlode.errors import IntegrityError, NotFound, Refusal
from everlode.events.base import Command, Envelope, Event, Fact
from everlode.events.states import (
    FraudState,
    MinerState,
    RewardState,
    TaskState,
    ValidationState,
)
from everlode.events.tasktypes import DEFAULT_TASK_TYPES

FOLD_VERSION = 4
"""Raised whenever `evolve` gives another state for the same facts."""

NAME_MOST = 100
"""Characters of a name that an owner gives; keys that are made of several must fit an id."""

S = TypeVar("S", TaskState, MinerState, ValidationState, RewardState, FraudState)

_INDEX: dict[type[Any], dict[str, int]] = {
    cls: {name: i for i, name in enumerate(cls._fields)}
    for cls in (TaskState, MinerState, ValidationState, RewardState, FraudState)
}


class Context(NamedTuple):
    """What a decision may know besides the command and the state.

    `home` is the region whose scope takes the command, `at` the event time of the command
    (its `issued_at`, or the causing fact's `occurred_at`), `command_id` its idempotency key; empty
    means that nobody will repeat it.
    """

    aggregate_id: str
    home: str
    at: datetime
    task_types: tuple[str, ...] = DEFAULT_TASK_TYPES
    command_id: str = ""


class Transition(NamedTuple):
    """A row of a transition table: from which statuses an event is lawful, and where it leads.

    `None` among the sources is "not there yet"; the target `None` keeps the status.
    """

    sources: frozenset[str | None]
    target: str | None


def rule(sources: Iterable[str | None], target: str | None = None) -> Transition:
    """A row of a transition table."""
    return Transition(frozenset(sources), target)


Table = Mapping[type[Event], Transition]


Decide = Callable[[Command, S | None, Context], tuple[Event, ...]]
Evolve = Callable[[S | None, Fact, int], S | None]
Folds = Mapping[type[Event], Callable[[Any, Fact, int], S | None]]


def deciding(
    table: Table, rules: Callable[[Any, S | None, Context], tuple[Event, ...]]
) -> Decide[S]:
    """The decision of an aggregate: what `rules` give, held against the transition table.

    It returns no events when the command changes nothing, and raises
        Refusal: the command breaks a rule; NotFound when there is no such aggregate.
        IntegrityError: the rules broke the table (code `transition`).
    """

    def decide(command: Command, state: S | None, ctx: Context) -> tuple[Event, ...]:
        events = rules(command, state, ctx)
        status: str | None = state.status if state is not None else None
        for event in events:
            row = table[type(event)]
            if status not in row.sources:
                raise IntegrityError(f"{type(event).__name__} from {status}", code="transition")
            status = row.target or status
        return events

    return decide


def folding(
    folds: Folds[S], first: Iterable[type[Event]], again: Iterable[type[Event]] = ()
) -> Evolve[S]:
    """The fold of an aggregate: by event type, history without holes.

    Events of the types `first` begin an aggregate, and no other does; those of them that are in
    `again` may come later too. It returns the state after the fact, None after a deletion, and
    raises IntegrityError when the fact cannot follow the state (code `lost_history`).
    """
    begins = {cls: folds[cls] for cls in first}
    again = tuple(again)
    follows = {cls: fold for cls, fold in folds.items() if cls not in begins or cls in again}

    def evolve(state: S | None, fact: Fact, partition: int) -> S | None:
        fold = (begins if state is None else follows).get(type(fact.data))
        if fold is None:
            raise lost_history(fact, state)
        return fold(state, fact, partition)

    return evolve


def head(envelope: Envelope, partition: int) -> tuple[str, int, int, int, int, str, int, int]:
    """The first eight fields of a state."""
    return (
        envelope.aggregate_id,
        envelope.epoch,
        envelope.version,
        envelope.stamp,
        FOLD_VERSION,
        envelope.origin,
        partition,
        envelope.seq,
    )


def home_of(envelope: Envelope) -> str:
    """Home region of a new aggregate: the region of the scope that took it."""
    return envelope.scope.rpartition("/")[2]


def step(state: S, envelope: Envelope, partition: int, **changes: object) -> S:
    """The state after an event: its head from the envelope, and `changes` by field name."""
    values: list[object] = list(state)
    values[:8] = head(envelope, partition)
    index = _INDEX[type(state)]
    for name, value in changes.items():
        values[index[name]] = value
    return tuple.__new__(type(state), values)


def lost_history(fact: Fact, state: object) -> IntegrityError:
    """The error of a fact that cannot follow the state."""
    have = "nothing" if state is None else f"version {getattr(state, 'version', '?')}"
    return IntegrityError(
        f"{type(fact.data).__name__} {fact.envelope.aggregate_id} version "
        f"{fact.envelope.version} cannot follow {have}",
        code="lost_history",
        hint="facts of this key are missing; level the partition and fold again",
    )


def refuse(code: str, message: str, hint: str = "") -> Refusal:
    """A refusal, to be raised."""
    return Refusal(message, code=code, hint=hint)


def check_name(kind: str, name: str) -> None:
    """Raises: Refusal: the name cannot be part of other keys (see "Ids" in docs/format.md)."""
    if not 0 < len(name) <= NAME_MOST or "|" in name or not name.isprintable():
        raise refuse(
            "bad_name",
            f"{name[:NAME_MOST]!r} is no name of a {kind}",
            f"1 to {NAME_MOST} printable characters, without |",
        )


def missing(kind: str, key: str) -> NotFound:
    """The refusal of a command to an aggregate that does not exist."""
    return NotFound(f"no {kind} is named {key!r}", code=f"no_{kind}")
