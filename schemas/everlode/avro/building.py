"""Models from values that Avro has already typed, without asking again what Avro has answered.

A value that was read with our own schema has exactly the model's fields, each of the right type:
whole numbers of 64 bits, valid Unicode, times with a zone and in whole milliseconds. What Avro
does not answer is checked here: bounds, lengths, patterns, closed lists of words, numbers that are
numbers. The checks are made from the schema that pydantic itself checks with, once a model; a
value that fails one goes to pydantic, which has the last word and the message, and a model with
anything that is not known here is pydantic's alone.
Invariant: `builder(model)(value)` equals `model.model_validate(value)`, and raises when it raises.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from everlode.events.base import Record
from everlode.events.types import whole_milliseconds

Build = Callable[[dict[str, Any]], Any]
_MIN, _MAX = -(2**63), 2**63 - 1
_KNOWN: dict[str, frozenset[str]] = {
    "bool": frozenset(),
    "int": frozenset({"ge", "le"}),
    "float": frozenset({"allow_inf_nan"}),
    "str": frozenset({"min_length", "max_length", "pattern"}),
    "literal": frozenset({"expected"}),
    "datetime": frozenset({"tz_constraint", "microseconds_precision"}),
    "function-after": frozenset({"schema", "function"}),
    "nullable": frozenset({"schema"}),
    "default": frozenset({"schema", "default"}),
    "tuple": frozenset(
        {"items_schema", "variadic_item_index", "strict", "min_length", "max_length"}
    ),
}
"""Kinds of pydantic's schemas, with all that may be said of each."""


_SLOTS = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
"""All that an instance of a model holds."""


class _NotExpressible(Exception):
    """Something that is pydantic's alone."""


class _Checks:
    """Expressions over a model's values, and what their names stand for."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {
            "__builtins__": {}, "len": len, "all": all, "map": map, "tuple": tuple,
        }  # fmt: skip

    def of(self, schema: Mapping[str, Any], value: str) -> Iterator[str]:
        """Expressions that are true when `value` (an expression) fits."""
        kind = schema["type"]
        said = schema.keys() - {"type", "metadata", "ref"}
        if kind not in _KNOWN or not said <= _KNOWN[kind]:
            raise _NotExpressible(kind)
        match kind:
            case "default":
                yield from self.of(schema["schema"], value)
            case "function-after":
                if schema["function"] != {"type": "no-info", "function": whole_milliseconds}:
                    raise _NotExpressible(kind)
                yield from self.of(schema["schema"], value)
            case "nullable":
                inner = self._inner(schema["schema"], value)
                if inner:
                    yield f"({value} is None or {inner})"
            case "tuple":
                (item,) = schema["items_schema"]
                yield from _lengths(schema, value)
                inner = self._inner(item, "x") if item["type"] != "model" else ""
                if inner:
                    yield f"all([{inner} for x in {value}])"
            case _:
                yield from self._scalar(schema, value)

    def _inner(self, schema: Mapping[str, Any], value: str) -> str:
        if schema["type"] == "tuple":
            raise _NotExpressible(schema)  # only a field's own list is made a tuple
        return " and ".join(self.of(schema, value))

    def _scalar(self, schema: Mapping[str, Any], value: str) -> Iterator[str]:
        match schema["type"]:
            case "int":
                if schema.get("ge", _MIN) > _MIN:
                    yield f"{value} >= {schema['ge']}"
                if schema.get("le", _MAX) < _MAX:
                    yield f"{value} <= {schema['le']}"
            case "str":
                yield from _lengths(schema, value)
                if "pattern" in schema:
                    # pydantic's $ is the very end; Python's is before a last newline too
                    found = re.compile(re.sub(r"\$$", r"\\Z", schema["pattern"])).search
                    yield f"{self.name(found)}({value}) is not None"
            case "literal":
                yield f"{value} in {self.name(frozenset(schema['expected']))}"
            case "float":
                if schema.get("allow_inf_nan") is False:
                    yield f"{value} - {value} == 0"

    def name(self, thing: Any) -> str:
        """A name that stands for a thing."""
        name = f"c{len(self.names)}"
        self.names[name] = thing
        return name


def _lengths(schema: Mapping[str, Any], value: str) -> Iterator[str]:
    low, high = schema.get("min_length", 0), schema.get("max_length")
    if low or high is not None:
        yield (f"{low} <= " if low else "") + f"len({value})" + f" <= {high}" * (high is not None)


def _fields(model: type[Record]) -> dict[str, Any]:
    """pydantic's schema of each field. Raises: _NotExpressible: the model does more than that."""
    whole: Any = model.__pydantic_core_schema__
    inner = whole.get("schema", {})
    if whole["type"] != "model" or inner.get("type") != "model-fields":
        raise _NotExpressible(model)
    if whole["custom_init"] or whole["root_model"] or inner["computed_fields"]:
        raise _NotExpressible(model)
    return {name: field["schema"] for name, field in inner["fields"].items()}


def _lists(fields: Mapping[str, Any]) -> list[tuple[str, Build | None]]:
    """Fields that are lists, with the builder of their items where these are models."""
    found: list[tuple[str, Build | None]] = []
    for name, said in fields.items():
        schema = said["schema"] if said["type"] == "default" else said
        if schema["type"] == "tuple":
            item = schema["items_schema"][0]
            found.append((name, builder(item["cls"]) if item["type"] == "model" else None))
    return found


@cache
def builder(model: type[Record]) -> Build:
    """What makes a `model` of a value read with our own schema; it keeps the value.

    The result raises pydantic's ValidationError when the value does not fit.
    """
    validate = model.__pydantic_validator__.validate_python
    try:
        fields = _fields(model)
        checks = _Checks()
        tests = [test for n, s in fields.items() for test in checks.of(s, f"v[{n!r}]")]
    except _NotExpressible:
        return validate
    lines = []
    for name, make in _lists(fields):
        item = f"map({checks.name(make)}, v[{name!r}])" if make else f"v[{name!r}]"
        lines.append(f"v[{name!r}] = tuple({item})")
    checks.names |= {"validate": validate, "new": object.__new__, "model": model}
    checks.names |= {f"set{n}": BaseModel.__dict__[slot].__set__ for n, slot in enumerate(_SLOTS)}
    checks.names["names"] = set(fields)  # shared: a frozen model never adds to it
    lines += [
        f"if not ({' and '.join(tests) or True}): return validate(v)",
        "made = new(model)",
        "set0(made, v)",
        "set1(made, names)",
        "set2(made, None)",
        "set3(made, None)",
        "return made",
    ]
    text = "\n ".join(["def build(v):", *lines])
    exec(text, checks.names)  # noqa: S102 - text of our own field names and numbers
    build: Build = checks.names["build"]
    return build
