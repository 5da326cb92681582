"""Every key of a topology file, from the model: for the document, and to name the nearest. Pure."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from everlode.topology.model import TopologyFile

ANY = "REGION"
"""What stands for the name of a region in a path."""


class Key(NamedTuple):
    """One key."""

    path: tuple[str, ...]
    expected: str
    """Type and bounds; empty for what has keys of its own."""
    default: str
    meaning: str


def keys() -> list[Key]:
    """All keys, each after the one that it is in."""
    return list(_of(TopologyFile, ()))


def _of(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        here = (*path, field.alias or name)
        inner = _model_in(field.annotation)
        if get_origin(field.annotation) is dict and inner is not None:
            yield Key(here, "", "", _text(field))
            here, field = (*here, ANY), FieldInfo(description=inner.__doc__)
        if inner is not None:
            yield Key(here, "", "", _text(field))
            yield from _of(inner, here)
        else:
            yield Key(here, _expected(field), _default(field), _text(field))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a key holds: itself, one of a mapping's values, or one that may lack."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (dict, types.UnionType):
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    return None


def _text(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | dict):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _expected(field: FieldInfo) -> str:
    of: dict[Any, str] = {
        int: "number", bool: "true or false", tuple[str, ...]: "list of names",
        dict[str, int]: "region: number", tuple[int, ...]: "count or numbers",
        dict[int, tuple[str, ...]]: "number: list of names",
    }  # fmt: skip
    kind = of.get(field.annotation, "number: number")
    low = next((m.ge for m in field.metadata if hasattr(m, "ge")), None)
    high = next((m.le for m in field.metadata if hasattr(m, "le")), None)
    bounds = "" if low is None else f" from {low}"
    return kind + bounds + ("" if high is None else f" to {high}")
