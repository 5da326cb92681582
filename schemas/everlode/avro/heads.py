"""Heads: what a record is and where it stands, read from its beginning alone. Pure.

A state begins with key, epoch, version and stamp, an event with its envelope: whoever looks for a
few among many decodes these and passes the rest over. Of a writer whose schema begins otherwise
there is no head, and its records are decoded whole.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from fastavro.schema import parse_schema

from everlode.avro import schemas


class StateHead(NamedTuple):
    """Where a state record stands, and the record."""

    key: str
    epoch: int
    version: int
    stamp: int
    value: bytes


class FactHead(NamedTuple):
    """What an event's record is, and where it stands."""

    name: str
    aggregate_id: str
    version: int
    seq: int
    stamp: int


_OF_STATE = StateHead._fields[:4]


def of_state(name: str, writer: Any) -> Any:
    """The beginning of a state's schema, parsed; None when it begins otherwise."""
    fields = writer["fields"][: len(_OF_STATE)]
    if tuple(field["name"] for field in fields) != _OF_STATE:
        return None
    return parse_schema({"type": "record", "name": f"{name}Head", "fields": fields})


@cache
def of_fact() -> Any:
    """The beginning of our envelope, with which each of our events begins, parsed."""
    fields = schemas.raw("Envelope")["fields"]
    last = [field["name"] for field in fields].index(FactHead._fields[-1])
    return parse_schema({"type": "record", "name": "FactHead", "fields": fields[: last + 1]})
