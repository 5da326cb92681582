"""The fold of the control log as one record, so that a start reads it and the tail behind it.

Any coordinator may write it: whoever folds the same records has the same state, so the newest
record counts, whosever it is, and an older one costs its reader a longer tail. History is read from
the log itself, of which compaction leaves all but old renewals (see `control.keys`); a snapshot has
what only those could show: which decisions were late. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from everlode.control.fold import ControlState

FOLD = 7
"""Raised whenever the fold gives another state for the same records: older snapshots are void."""
EVERY = 1_000
"""Records between two snapshots."""
_STATE = TypeAdapter(ControlState)
_LATE = TypeAdapter(dict[int, str])


def to_bytes(state: ControlState) -> bytes:
    """The record. Deterministic."""
    values = {field.name: getattr(state, field.name) for field in fields(state)}
    plain: dict[str, Any] = {
        name: {**v} if isinstance(v, Mapping) else v for name, v in values.items()
    }
    return b'{"fold": %d, "state": %s}' % (FOLD, _STATE.dump_json(ControlState(**plain)))


def from_bytes(data: bytes | None) -> ControlState | None:
    """The state in a record; None when it is damaged, or of another fold."""
    try:
        found = json.loads(data or b"")
        if found["fold"] != FOLD:
            return None
        return _STATE.validate_json(json.dumps(found["state"]))
    except (ValueError, KeyError, TypeError, RecursionError, ValidationError):
        return None


def begin(data: bytes | None, end: int, *, whole: bool = False) -> ControlState | None:
    """What a reader of a log that ends at `end` begins with, by a record; None when it has no say.

    With `whole`, or by a record of another fold, that is the log's beginning, and which decisions
    further on were late.
    """
    kept = None if whole else from_bytes(data)
    try:
        found = json.loads(data or b"")["state"]
        if found["position"] >= end:
            return None  # of another log
        return kept or ControlState(late=_LATE.validate_json(json.dumps(found.get("late", {}))))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError):
        return None
