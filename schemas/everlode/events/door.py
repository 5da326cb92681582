"""What may come in from outside: one rule a kind of field, for every command and heartbeat.

The models say what Avro can hold; this says what the network takes from strangers. A fact is never
asked again: what stands in a log was lawful when it came, and is read whatever the rules say today.

A field's kind follows from its type and its name:

    str                 no control characters (PostgreSQL cannot hold U+0000, logs not the others)
    tuple               each item once; then the rule of its items
    datetime            from `PAST` before now to `FUTURE` after it: also what was meant in another
                        unit than milliseconds falls outside
    int, *_micro        an amount of money: 0 to `MOST_MICRO`; what `ABOVE_0` names, from 1 on
    int, *_ms           a duration: 0 to `LONGEST_MS`
    int, *_bytes        a size: 0 to `LARGEST_BYTES`
    int, a share or a place (`FREE`): as the model bounds it; nothing adds them up
    int, else           a number of things: 0 to `MOST_THINGS`

Sums: below 2^63 / `MOST_MICRO` = 9,223 amounts no sum of a 64-bit field can overflow; where more
may come together the decider refuses the sum (`state.miner`), and PostgreSQL adds in numeric.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

from pydantic import AwareDatetime, ValidationError

from everlode.errors import Refusal
from everlode.events.base import Command, Envelope, Event, OperatorCommand, OwnCommand, Record
from everlode.events.commands import FRAUD, DepositStake, SuspendMiner
from everlode.events.types import SHA256

PAST = timedelta(days=3660)
FUTURE = timedelta(days=3660)
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
"""No heartbeat is older."""
MOST_MICRO = 10**15
"""A thousand million whole units."""
ABOVE_0: Container[tuple[type[Record], str]] = {(DepositStake, "amount_micro")}
"""Amounts that are not 0. Of others 0 is lawful: a task may be free, a verdict without penalty."""
LONGEST_MS = 10 * 366 * 86_400_000
LARGEST_BYTES = 2**49
MOST_THINGS = 10**9

FREE = ("_ppm", "stamp", "epoch", "version", "seq", "partition", "offset", "position")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
Check = Callable[[str, Any, datetime], None]
"""(name of the field, its value, now); raises Refusal."""


class _Rule(NamedTuple):
    """Of one field. What is plainly lawful is let in without `check`: most of what comes is."""

    field: str
    check: Check
    text: bool
    least: int
    most: int
    """Of a whole number; -1: it is none."""


def refused(field: str, is_now: str, expected: str) -> Refusal:
    """The refusal of one field: names it, what it is and what was expected."""
    return Refusal(f"{field} {is_now}", code="bad_field", hint=f"expected for {field}: {expected}")


_EXPECTED = {
    "greater_than_equal": "a number, at least {ge}",
    "less_than_equal": "a number, at most {le}",
    "literal_error": "one of {expected}",
    "string_pattern_mismatch": "a text that matches {pattern}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "too_long": "at most {max_length} items",
}
"""pydantic's type of error → what was expected, with its context."""


def misfit(error: ValidationError) -> Refusal:
    """The refusal of the first field that a model has refused, by the same form.

    A text is not quoted, since it may be long, or secret.
    """
    item = error.errors(include_url=False)[0]
    first, *parts = item["loc"] or ("body",)  # of what is no object at all
    field = str(first) + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts)
    context = item.get("ctx", {})
    expected = _EXPECTED.get(item["type"], item["msg"]).format(**context)
    if context.get("pattern") == SHA256:
        expected = "a SHA-256 as 64 hex digits, the letters in lower case"
    value = item["input"]
    return refused(field, f"is {value}" if type(value) is int else "does not fit", expected)


def check(record: Record, now: datetime) -> None:
    """Check all fields of a command, a header or a heartbeat. Raises: Refusal: `bad_field`.

    The first field that does not fit is named, nested ones with their place, e.g.
    `evidence[3].note`. `now` is event time.
    """
    _check(record, "", now)


def check_asked(command: Command, issued_by: str, operators: Container[str]) -> None:
    """Raises: Refusal: a primary alone asks this, of itself (`not_yours`, `reserved_reason`), or an
    operator (`operator_needed`)."""
    if isinstance(command, OwnCommand):
        raise Refusal(
            f"{type(command).__name__} follows from facts or from time; nobody asks for it",
            code="not_yours",
            hint="wait for what it follows from, e.g. a vote, a report or a deadline",
        )
    if isinstance(command, OperatorCommand) and issued_by not in operators:
        raise Refusal(
            f"{type(command).__name__} is an operator's; {issued_by!r} is none",
            code="operator_needed",
            hint="an operator that the topology names asks for it (issued_by)",
        )
    if isinstance(command, SuspendMiner) and command.reason.startswith(FRAUD):
        raise Refusal(
            f"a reason that begins with {FRAUD} follows from a confirmed case alone",
            code="reserved_reason",
            hint="give another reason",
        )


def check_signal(envelope: Envelope, data: Event) -> None:
    """Check all fields of a signal that strangers send. Raises: Refusal: `bad_field`.

    Its readers must leave out the same, whenever they read it: so "now" is its own time, and that
    one is not before `BEGINNING`, where seconds in place of milliseconds fall.
    """
    if envelope.occurred_at < BEGINNING:
        at = envelope.occurred_at.isoformat()
        raise refused("occurred_at", f"is {at}", "a time since 2000, in milliseconds since 1970")
    check(envelope, envelope.occurred_at)
    check(data, envelope.occurred_at)


def _check(record: Record, prefix: str, now: datetime) -> None:
    values = record.__dict__
    for name, check, text, least, most in _rules(type(record)):
        value = values[name]
        if (
            value is None
            or (text and value.isprintable())
            or (most >= 0 and least <= value <= most)
        ):
            continue
        check(prefix + name, value, now)


@cache
def _rules(model: type[Record]) -> tuple[_Rule, ...]:
    """Of those fields that have one, in order."""
    found = []
    for name, field in model.model_fields.items():
        least = int((model, name) in ABOVE_0)
        check = _rule(name, field.annotation, least)
        if check is not None:
            (kind,) = _plain(field.annotation)
            most = _most(name)[0] if kind is int else -1
            found.append(_Rule(name, check, kind is str, least, most))
    return tuple(found)


def _plain(annotation: Any) -> Iterator[Any]:
    """The types that an annotation allows, without None."""
    if get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _plain(part)
    elif hasattr(annotation, "__metadata__"):
        yield from _plain(annotation.__origin__)
    elif annotation is not type(None):
        yield annotation


def _rule(name: str, annotation: Any, least: int = 0) -> Check | None:
    (kind,) = _plain(annotation)
    if kind is str:
        return _text
    if kind in (datetime, AwareDatetime):
        return _time
    if kind is int:
        return _bounded(name, least)
    if get_origin(kind) is tuple:
        return _each(_rule(name, get_args(kind)[0]))
    if isinstance(kind, type) and issubclass(kind, Record):
        return lambda field, value, now: _check(value, f"{field}.", now)
    return None  # bool and the closed lists: the model says all


def _text(field: str, value: str, _: datetime) -> None:
    found = _CONTROL.search(value)
    if found is not None:
        at, code = found.start(), ord(found[0])
        raise refused(
            field, f"has the control character U+{code:04X} at {at}", "no control characters"
        )


def _time(field: str, value: datetime, now: datetime) -> None:
    if not now - PAST <= value <= now + FUTURE:
        raise refused(
            field, f"is {value.isoformat()}",
            f"a time within {PAST.days} days of now, {now.isoformat()}, in milliseconds since 1970",
        )  # fmt: skip


def _most(name: str) -> tuple[int, str]:
    """The greatest number that a field may hold, and what it is."""
    if name.endswith("_micro"):
        return MOST_MICRO, "an amount in millionths"
    if name.endswith("_ms"):
        return LONGEST_MS, "a duration in milliseconds"
    if name.endswith("_bytes"):
        return LARGEST_BYTES, "a size in bytes"
    return MOST_THINGS, "a number"


def _bounded(name: str, least: int) -> Check | None:
    if name.endswith(FREE):
        return None
    most, what = _most(name)

    def bounded(field: str, value: int, _: datetime) -> None:
        if not least <= value <= most:
            raise refused(field, f"is {value}", f"{what}, {least} to {most}")

    return bounded


def _each(item: Check | None) -> Check:
    def each(field: str, values: tuple[Any, ...], now: datetime) -> None:
        known: dict[Any, int] = {}
        for number, value in enumerate(values):
            if known.setdefault(value, number) != number:
                raise refused(
                    f"{field}[{number}]", f"repeats {field}[{known[value]}]", "each item once"
                )
            if item is not None:
                item(f"{field}[{number}]", value, now)

    return each
