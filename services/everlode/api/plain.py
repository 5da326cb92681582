"""What the API answers, as JSON: a number that may have 64 bits is a text.

A browser rounds integers beyond 2^53, so every integer is a string of digits, whatever its size: a
field never changes its type with its value (as protobuf's JSON has its int64). Floats are numbers,
times are RFC 3339 in UTC. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel


def plain(value: Any) -> Any:
    """The value in terms of JSON. Raises: TypeError: there is no form for its type."""
    match value:
        case None | bool() | float() | str():
            return value
        case int():
            return str(value)
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds")
        case BaseModel():
            return {name: plain(getattr(value, name)) for name in type(value).model_fields}
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case tuple() if hasattr(value, "_fields"):
            return {name: plain(getattr(value, name)) for name in value._fields}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            raise TypeError(f"{type(value).__name__} has no form in JSON")


def as_json(value: Any) -> str:
    """The value as one line of JSON."""
    return json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
