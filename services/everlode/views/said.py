"""A value of an answer in words, for people: on the command line and on the pages. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any


def said(value: Any) -> str:
    """The value in words; what is listed is a line each."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="milliseconds")
        case Mapping():
            return ", ".join(f"{k}: {said(v)}" for k, v in value.items()) or "none"
        case list() | tuple():
            return "\n".join(said(item) for item in value) or "none"
        case _:
            return str(value)


def rows(found: Mapping[str, Any], without: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(name, value in words) of each field, in their order."""
    return [(n.replace("_", " "), said(v)) for n, v in found.items() if n not in without]
