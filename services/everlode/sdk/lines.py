"""Lines: facts on their way into the log; and what a caller of `emit` may give. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from everlode.avro.building import builder
from everlode.avro.codec import encode_fact
from everlode.errors import ContractError, Refusal
from everlode.events.base import Envelope
from everlode.events.identity import home_of_id, name_of, qualified
from everlode.events.stamp import MAX_AHEAD_MS, millis_of
from everlode.events.types import LONGEST_ID, fitting
from everlode.log.facts import NewFact
from everlode.sdk.emits import Emit, Result

_NO_COMMAND = dict.fromkeys(("command_id", "source_topic", "source_partition", "source_position"))
_made: Callable[[dict[str, Any]], Envelope] = builder(Envelope)
"""Of ids that `emit` has checked; all the rest is ours."""


class Writing(NamedTuple):
    """What is the same in all of a producer's envelopes."""

    origin: str
    scope: str
    epoch: int

    def envelope(self, emit: Emit, version: int, seq: int, stamp: int) -> Envelope:
        """Of an emit's fact. Raises: ValidationError: it holds what does not fit."""
        return _made(
            {
                "event_id": emit.event_id,
                "aggregate_id": emit.key,
                "version": version,
                **self._asdict(),
                "seq": seq,
                "stamp": stamp,
                "occurred_at": emit.occurred_at,
                "correlation_id": emit.correlation_id,
                "causation_id": emit.cause.event_id if emit.cause else None,
                **_NO_COMMAND,
            }
        )


class Line(NamedTuple):
    """A record to append, and the emit that it answers; None for a mark."""

    fact: NewFact
    emit: Emit | None


def check_ids(*ids: str | None) -> None:
    """Raises: Refusal: an id does not fit the envelope."""
    for text in ids:
        if text is not None and not 0 < len(text) <= LONGEST_ID:
            raise Refusal(
                f"an id has {len(text)} characters",
                code="bad_id",
                hint=f"1 to {LONGEST_ID} of them",
            )
        if text is not None and fitting(text, LONGEST_ID) != text:
            raise Refusal("an id is no Unicode", code="bad_id", hint="it has a lone surrogate")


def check_home(home: str, key: str, cause: Envelope | None, known: Callable[[], bool]) -> None:
    """Raises: Refusal: the aggregate is at home elsewhere, or has no home and is not `known`.

    What is derived from an aggregate of an older log has none either.
    """
    named = home_of_id(key)
    derived = cause is not None and not home_of_id(cause.aggregate_id)
    if named == home or (not named and (derived or known())):
        return
    raise Refusal(
        f"{key} is at home in {named or 'no region'}, this producer in {home}",
        code="not_at_home",
        hint=f"name it {qualified(home, name_of(key))}, or emit it at its home",
    )


def check_cause(cause: Envelope | None, here_ms: int) -> None:
    """Raises: Refusal: no record of now, `here_ms`, could be stamped above it."""
    if cause is not None and millis_of(cause.stamp) > here_ms + MAX_AHEAD_MS:
        raise Refusal(
            f"cause {cause.event_id} is stamped {millis_of(cause.stamp) - here_ms} ms ahead",
            code="clock_skew",
            hint="set this machine's clock, or the one that wrote the record",
        )


def moment(at: datetime) -> datetime:
    """The time in whole milliseconds, as records hold it. Raises: Refusal: it has no zone."""
    if at.utcoffset() is None:
        raise Refusal(
            f"occurred_at {at.isoformat()} has no zone",
            code="naive_time",
            hint="give one with a zone, e.g. datetime.now(UTC)",
        )
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def too_large(lines: Sequence[Line]) -> list[tuple[Emit, Result]]:
    """The emits whose facts cannot be encoded, and why."""
    found: list[tuple[Emit, Result]] = []
    for (_, envelope, data), emit in lines:
        try:
            encode_fact(envelope, data)
        except ContractError as error:
            if emit is not None:
                found.append((emit, error))
    return found
