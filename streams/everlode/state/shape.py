"""What all five aggregates share: the transition table, and what is made of it.

A table's row says where an event is lawful from and where it leads:

    (TaskAttemptFailed, "again"): from assigned to submitted
    (TaskAttemptFailed, "final"): from assigned to failed

`deciding` refuses an event that its row does not allow; `folding` takes the new status from the
row, so that no fold sets one; docs/states.md is drawn from the rows; and a law test takes the
tables for a claim about the folds, and plants false ones. An event of a type with variants is
told apart by its own fields, or by the status that it finds.

Invariants: a state names the event that made it (key, epoch, version, stamp, origin, partition,
seq); a decision reads no clock, no ids and no randomness. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from everlode.errors import IntegrityError, NotFound, Refusal
from everlode.events.base import Command, Envelope, Event, Fact
from everlode.events.identity import home_of_id
from everlode.events.states import (
    FraudState,
    MinerState,
    RewardState,
    TaskState,
    ValidationState,
)
from everlode.events.tasktypes import DEFAULT_TASK_TYPES

FOLD_VERSION = 5
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
    means that nobody will repeat it. `operators` may lift suspensions for fraud; `validators` holds
    (node, kind) of the nodes that may judge. `own`: a primary asks it of itself.
    """

    aggregate_id: str
    home: str
    at: datetime
    task_types: tuple[str, ...] = DEFAULT_TASK_TYPES
    command_id: str = ""
    operators: tuple[str, ...] = ()
    validators: Container[tuple[str, str]] = frozenset()
    own: bool = False


class Row(NamedTuple):
    """A row of a transition table: the statuses an event is lawful from, and where it leads.

    `None` among the sources is "not there yet"; the target `None` keeps the status.
    """

    sources: frozenset[str | None]
    target: str | None


def rule(sources: Iterable[str | None], target: str | None = None) -> Row:
    """A row of a transition table."""
    return Row(frozenset(sources), target)


Table = Mapping[tuple[type[Event], str], Row]
"""(event type, variant) → row. The variant is empty where all events of a type lead alike."""
Variants = Mapping[type[Event], Callable[[Any, str | None], str]]
"""Event type → the variant of an event, given the status that it finds; total over statuses."""
Head = tuple[str, int, int, int, int, str, int, int, str]
"""The first nine fields of a state: the event that made it, and the status that its row gives."""
Decide = Callable[[Command, S | None, Context], tuple[Event, ...]]
Evolve = Callable[[S | None, Fact, int], S | None]
Fold = Callable[[Any, Fact, Head], S | None]
"""The state after a fact, of the state before it and the new state's head."""
Folds = Mapping[type[Event], Fold[S]]

FINAL, AGAIN = "final", "again"


def by_final(event: Any, _: str | None) -> str:
    """The variant of an event with a field `final`: whether it ends the aggregate."""
    return FINAL if event.final else AGAIN


def deciding(
    table: Table,
    rules: Callable[[Any, S | None, Context], tuple[Event, ...]],
    variants: Variants = MappingProxyType({}),
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
            row = table[row_key(event, status, variants)]
            if status not in row.sources:
                raise IntegrityError(f"{type(event).__name__} from {status}", code="transition")
            status = row.target or status
        return events

    return decide


def row_key(event: Event, status: str | None, variants: Variants) -> tuple[type[Event], str]:
    """The key of the row of an event that finds `status`."""
    cls = type(event)
    variant = variants.get(cls)
    return cls, variant(event, status) if variant else ""


class _Arrow(NamedTuple):
    """All rows of one event type, made ready for the fold: each fact goes through one."""

    fold: Fold[Any]
    target: str | None
    """Where it leads when there are no variants; None keeps the status."""
    variant: Callable[[Any, str | None], str] | None
    targets: Mapping[str, str | None]
    """Variant → target."""


def _arrow(cls: type[Event], folds: Folds[S], table: Table, variants: Variants) -> _Arrow:
    targets = {variant: row.target for (event, variant), row in table.items() if event is cls}
    return _Arrow(folds[cls], targets.get(""), variants.get(cls), targets)


def folding(folds: Folds[S], table: Table, variants: Variants = MappingProxyType({})) -> Evolve[S]:
    """The fold of an aggregate: the row gives the new status, the event's fold the other fields.

    Events with a row from nothing, and no others, begin an aggregate; those whose rows have no
    other source do not follow. The fold asks no more of the sources: `decide` has checked them
    before the fact was written, and what is written is folded as it is.
    It returns the state after the fact, None after a deletion, and raises IntegrityError when the
    fact cannot follow the state (code `lost_history`).
    """
    arrows = {cls: _arrow(cls, folds, table, variants) for cls in folds}
    begins = {cls: arrows[cls] for (cls, _), row in table.items() if None in row.sources}
    follows = {cls: arrows[cls] for (cls, _), row in table.items() if row.sources - {None}}

    def evolve(state: S | None, fact: Fact, partition: int) -> S | None:
        envelope, data = fact
        arrow = (begins if state is None else follows).get(type(data))
        if arrow is None:
            raise lost_history(fact, state)
        fold, target, variant, targets = arrow
        before = None if state is None else state.status
        if variant is not None:
            target = targets[variant(data, before)]
        head = (
            envelope.aggregate_id,
            envelope.epoch,
            envelope.version,
            envelope.stamp,
            FOLD_VERSION,
            envelope.origin,
            partition,
            envelope.seq,
            target or before,
        )
        return fold(state, fact, head)  # type: ignore[arg-type]  # what begins has a target

    return evolve


def home_of(envelope: Envelope) -> str:
    """Home region of a new aggregate: the region of the scope that took it."""
    return envelope.scope.rpartition("/")[2]


def step(state: S, head: Head, **changes: object) -> S:
    """The state after an event: its head, and `changes` by field name (never the status)."""
    values: list[object] = list(state)
    values[:9] = head
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
    hint = "" if home_of_id(key) else "an id begins with its home, e.g. eu/job-1"
    return NotFound(f"no {kind} is named {key!r}", code=f"no_{kind}", hint=hint)
