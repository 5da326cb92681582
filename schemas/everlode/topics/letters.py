"""A dead letter as it is read again: which record it is of, and why it is there. Pure.

Invariant: a letter is known by its record, `<consumer>/<topic>/<partition>/<offset>`; a consumer
that was killed writes the same letter twice, and both have one id. What stands behind the last
`dlt-consumer` is the consumer's; what stands before it is the record's own, whatever it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

FIRST = "dlt-consumer"
"""The first header of those that a consumer adds; see `place.letter`."""
LEFT_OUT = {"dlt-left-out": "value", "dlt-key-left-out": "key", "dlt-headers-left-out": "headers"}
"""Header → what was too large to be kept."""
NO_PROVENANCE = "no_provenance"
"""The code of a record on a topic of dead letters that none of our consumers has written."""
_PREFIX = "dlt."


class DeadLetter(NamedTuple):
    """What a letter says of its record; the record itself stays where it is."""

    consumer: str
    topic: str
    partition: int
    offset: int
    """Below 0: of what a recovery could not restore."""
    code: str
    message: str
    left_out: tuple[str, ...]
    """Of value, key and headers what the letter does not have; its record may have."""
    letter_offset: int
    """Of the letter, in `dlt.<consumer>.<topic>`."""
    kept_at_ms: int | None
    """When it was written; None: not known."""

    @property
    def id(self) -> str:
        """By its record; the same letter written again has the same."""
        return f"{self.consumer}/{self.topic}/{self.partition}/{self.offset}"


def read(
    letter_topic: str,
    letter_offset: int,
    headers: Sequence[tuple[str, bytes | None]],
    kept_at_ms: int | None,
) -> DeadLetter:
    """The letter at an offset of `dlt.<consumer>.<topic>`, by its headers.

    One that no consumer of ours has written has its own place for its record's, and says so.
    """
    consumer, _, topic = letter_topic.removeprefix(_PREFIX).partition(".")
    added = {n: (v or b"").decode("utf-8", "replace") for n, v in headers[_first(headers) :]}
    try:
        partition, offset = int(added["dlt-partition"]), int(added["dlt-offset"])
        code, message = added["dlt-code"], added["dlt-message"]
    except (KeyError, ValueError):
        partition, offset, code = 0, letter_offset, NO_PROVENANCE
        message = "it does not say which record it is of"
    left_out = tuple(what for name, what in LEFT_OUT.items() if name in added)
    return DeadLetter(
        consumer, topic, partition, offset, code, message, left_out, letter_offset, kept_at_ms
    )


def own_headers(headers: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The headers that the record had before it became a letter."""
    return [*headers[: _first(headers)]]


def _first(headers: Sequence[tuple[str, bytes | None]]) -> int:
    places = [number for number, (name, _) in enumerate(headers) if name == FIRST]
    return places[-1] if places else len(headers)
