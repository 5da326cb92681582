"""Lines: facts on their way into the log; and what a caller of `emit` may give. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from everlode.avro.codec import encode_fact
from everlode.errors import ContractError, Refusal
from everlode.events.types import fitting
from everlode.log.facts import NewFact
from everlode.sdk.emits import Emit, Result

MAX_ID = 255


class Line(NamedTuple):
    """A record to append, and the emit that it answers; None for a mark."""

    fact: NewFact
    emit: Emit | None


def check_ids(*ids: str | None) -> None:
    """Raises: Refusal: an id does not fit the envelope."""
    for text in ids:
        if text is not None and not 0 < len(text) <= MAX_ID:
            raise Refusal(
                f"an id has {len(text)} characters", code="bad_id", hint=f"1 to {MAX_ID} of them"
            )
        if text is not None and fitting(text, MAX_ID) != text:
            raise Refusal("an id is no Unicode", code="bad_id", hint="it has a lone surrogate")


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
