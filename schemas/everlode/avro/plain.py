"""States as plain values, which Avro and JSON writers take, and back. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from everlode.avro import schemas
from everlode.errors import ContractError
from everlode.events import states
from everlode.events.base import Evidence, LedgerEntry, Record
from everlode.events.catalogue import STATES

NESTED: dict[str, Any] = {
    "Evidence": Evidence,
    "LedgerEntry": LedgerEntry,
    "Performance": states.Performance,
    "Vote": states.Vote,
    "Judgement": states.Judgement,
}


def record_fields(schema: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Names of the fields that are arrays, with the short name of their items' type."""
    found = []
    for field in schema["fields"]:
        kind = field["type"]
        if isinstance(kind, dict) and kind.get("type") == "array":
            item = kind["items"]
            name = item["name"] if isinstance(item, dict) else item
            found.append((field["name"], name.removeprefix(schemas.NAMESPACE + ".")))
    return tuple(found)


_STATE_ARRAYS = {cls: record_fields(schemas.raw(cls.__name__)) for cls in STATES.values()}
_STATE_MAPS = {
    cls: tuple(
        field["name"]
        for field in schemas.raw(cls.__name__)["fields"]
        if isinstance(field["type"], dict) and field["type"]["type"] == "map"
    )
    for cls in STATES.values()
}


def _plain(item: Any) -> dict[str, Any]:
    """A nested item's fields; none of these has parts of its own."""
    return {**item.__dict__} if isinstance(item, Record) else item._asdict()


def state_dict(state: states.State) -> dict[str, Any]:
    """The state as plain values, as Avro and JSON writers want it; maps sorted by key."""
    value = state._asdict()
    for field in _STATE_MAPS[type(state)]:
        value[field] = dict(sorted(value[field].items()))
    for field, item in _STATE_ARRAYS[type(state)]:
        value[field] = [_plain(x) for x in value[field]] if item in NESTED else value[field]
    return value


def state_from_dict(component: str, value: dict[str, Any]) -> states.State:
    """The state of `component` from plain values. Raises: ContractError."""
    cls = STATES[component]
    try:
        for field, item in _STATE_ARRAYS[cls]:
            model = NESTED.get(item)
            value[field] = tuple(model(**x) for x in value[field]) if model else tuple(value[field])
        return cls(**value)
    except (TypeError, KeyError, ValidationError) as error:
        raise ContractError(f"no {cls.__name__}: {error}") from None
