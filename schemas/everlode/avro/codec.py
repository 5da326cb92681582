"""Single-object encoding: C3 01, the schema's fingerprint, the Avro body.

Source: Apache Avro 1.12 specification, "Single-object encoding". What does not fit the contract
(marker, unknown fingerprint, truncated or trailing bytes, a value out of range) is a
`ContractError`; an unknown fingerprint is the leaf `UnknownSchema`, which may be cured by waiting
for the writer's schema. A `Codec` holds the schemas it has learnt and is otherwise pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any, NamedTuple

import fastavro
from fastavro import schemaless_reader
from fastavro.read import SchemaResolutionError
from fastavro.schema import parse_schema
from pydantic import ValidationError

from everlode.avro import heads, resolution, schemas, unread
from everlode.avro.building import Build, builder
from everlode.avro.heads import FactHead, StateHead
from everlode.avro.plain import NESTED, record_fields, state_dict, state_from_dict
from everlode.avro.upcasts import UPCASTS
from everlode.errors import ContractError
from everlode.events import door, states
from everlode.events.base import (
    Command,
    CommandAnswered,
    CommandHeader,
    Envelope,
    Event,
    Fact,
    Record,
    Request,
)
from everlode.events.catalogue import COMMANDS, EVENTS, STATES

MARKER = b"\xc3\x01"
MAX_BYTES = 1_000_000
"""A record above this is refused on both sides; payloads travel by reference."""
MAX_COMMAND_BYTES = 100_000
"""A command above this is refused on both sides, so that the facts and states it leads to fit."""
_DECODE_ERRORS = (*unread.DECODE_ERRORS, SchemaResolutionError)
_ENCODE_ERRORS = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError)
"""What fastavro raises of values that its schema has no room for, e.g. a long beyond 64 bits."""


class UnknownSchema(ContractError):
    """No schema has this fingerprint; it may still arrive on a `.schemas` topic."""

    default_code = "unknown_schema"

    def __init__(self, fingerprint: bytes) -> None:
        super().__init__(
            f"no known schema has the fingerprint {fingerprint.hex()}",
            hint="take it from docs/fingerprints.md, or publish the schema on <origin>.schemas",
        )
        self.fingerprint = fingerprint


class _Entry(NamedTuple):
    name: str
    writer: Any
    reader: Any  # None when the writer's schema is ours
    fact: tuple[Build, Build] | None = None  # what makes envelope and body, when it is an event
    command: tuple[Build, Build] | None = None  # what makes header and body, when it is a command
    head: Any = None  # the beginning of the writer's schema, when it is a state or our event


_STATE_NAMES = frozenset(cls.__name__ for cls in STATES.values())


def _entry(name: str, writer: Any, reader: Any) -> _Entry:
    if name in _STATE_NAMES:
        return _Entry(name, writer, reader, head=heads.of_state(name, writer))
    # of another writer's schema defaults and promoted types come in as they are
    made: Callable[[type[Record]], Build] = builder if reader is None else _validator
    if name in EVENTS:
        fact = made(Envelope), made(EVENTS[name].model)
        return _Entry(name, writer, reader, fact, head=heads.of_fact() if reader is None else None)
    if name in COMMANDS:
        return _Entry(name, writer, reader, command=(made(CommandHeader), made(COMMANDS[name])))
    return _Entry(name, writer, reader)


def _validator(model: type[Record]) -> Build:
    return model.__pydantic_validator__.validate_python


def _needs_dump(model: type[Record]) -> bool:
    return any(
        item in NESTED or item in _MODELS_IN_EVENTS
        for _, item in record_fields(schemas.raw(model.__name__))
    )


_MODELS_IN_EVENTS = frozenset({"Position", "FactRef", "ScopeEpoch", "Evidence", "LedgerEntry"})
_MODELS: tuple[type[Record], ...] = (
    *(kind.model for kind in EVENTS.values()),
    *COMMANDS.values(),
    CommandAnswered,
)
_DUMP = {model: _needs_dump(model) for model in _MODELS}


def _body(record: Record) -> dict[str, Any]:
    """The record's fields; a shallow view where it has no nested records (it is frozen)."""
    return record.model_dump() if _DUMP[type(record)] else record.__dict__


@cache
def _mark(name: str) -> bytes:
    return MARKER + schemas.fingerprint(name)


def encode_record(name: str, value: dict[str, Any], most: int = MAX_BYTES) -> bytes:
    """Bytes of plain values under our schema `name`. Raises: ContractError: above `most` bytes."""
    out = BytesIO()
    try:
        fastavro.schemaless_writer(out, schemas.parsed(name), value)
    except _ENCODE_ERRORS as error:
        raise ContractError(
            f"{name} holds what cannot be written: {type(error).__name__}", code="unwritable"
        ) from None
    data = _mark(name) + out.getvalue()
    if len(data) > most:
        raise ContractError(
            f"{name} is {len(data)} bytes long; at most {most} are allowed",
            code="too_large",
            hint="store the payload elsewhere and send its URI, SHA-256 and size",
        )
    return data


def encode_fact(envelope: Envelope, data: Event) -> bytes:
    """Bytes of an event. Deterministic. Raises: ContractError: too large; a value does not fit."""
    return encode_record(type(data).__name__, {"envelope": envelope.__dict__, **_body(data)})


def encode_request(header: CommandHeader, data: Command) -> bytes:
    """Bytes of a command. Raises: ContractError when it is too large."""
    value = {"header": header.__dict__, **_body(data)}
    return encode_record(type(data).__name__, value, MAX_COMMAND_BYTES)


def encode_answer(answer: CommandAnswered) -> bytes:
    """Bytes of an answer."""
    return encode_record("CommandAnswered", _body(answer))


def encode_state(state: states.State) -> bytes:
    """Bytes of a state record. Deterministic. Raises: ContractError: as `encode_fact`."""
    return encode_record(type(state).__name__, state_dict(state))


def _values(name: str, data: bytes, writer: Any, reader: Any) -> tuple[dict[str, Any], int]:
    """What follows a record's mark as plain values, and where they end. Raises: ContractError."""
    body = BytesIO(data)
    body.seek(10)
    try:
        value = schemaless_reader(body, writer, reader)
    except _DECODE_ERRORS as error:
        raise ContractError(f"{name}: {type(error).__name__}", code="broken") from None
    if not isinstance(value, dict):
        raise ContractError(f"{name}: no record", code="broken")
    return value, body.tell()


@cache
def _our_texts() -> dict[str, bytes]:
    """Our schemas as `SchemaPublished` has them → their fingerprints."""
    return {json.dumps(schemas.raw(n)): schemas.fingerprint(n) for n in schemas.names()}


class Codec:
    """Decodes; knows our own schemas and those it is told of. Not thread-safe while learning."""

    def __init__(self) -> None:
        self._book: dict[bytes, _Entry] = {
            schemas.fingerprint(name): _entry(name, schemas.parsed(name), None)
            for name in schemas.names()
        }
        self._texts = dict(_our_texts())

    def learn(self, schema_json: str) -> bytes:
        """Add a writer's schema, which must carry one of our names; returns its fingerprint.

        Idempotent, and cheap for a text that is known: each primary publishes all of its schemas.
        Raises: ContractError when it is no schema, its name is not in the contract, our schema
        cannot read it, or a few of its bytes could stand for endless items.
        """
        known = self._texts.get(schema_json)
        if known is not None:
            return known
        try:
            raw = json.loads(schema_json)
            name = str(raw["name"]).rpartition(".")[2]
            writer = parse_schema(raw, named_schemas={})
            key = schemas.fingerprint_of(raw)
            reader = schemas.parsed(name)
            wrong = resolution.endless(writer) or resolution.problems(schemas.raw(name), writer)
        except ContractError:
            raise
        except Exception as error:  # noqa: BLE001 - any parser error: the text is hostile
            raise ContractError(f"not an Avro schema: {error}") from None
        if wrong:
            raise ContractError(f"{name}: {wrong[0]}", code="incompatible_schema")
        self._book.setdefault(key, _entry(name, writer, reader))
        self._texts[schema_json] = key
        return key

    def knows(self, fingerprint: bytes) -> bool:
        """True when records with this fingerprint can be decoded."""
        return fingerprint in self._book

    def type_name(self, data: bytes | None) -> str | None:
        """What a record says that it is, without decoding it; None when that is not known."""
        entry = self._known((data or b"")[2:10])
        return entry.name if entry is not None else None

    def decode_dict(self, data: bytes | None) -> tuple[str, dict[str, Any]]:
        """Type name and plain values of any record.

        Raises:
            UnknownSchema: the fingerprint is not known (yet).
            ContractError: the bytes do not fit.
        """
        entry, value = self._read(data)
        return entry.name, value

    def _entry_of(self, data: bytes) -> _Entry:
        entry = self._book.get(data[2:10])
        if entry is not None and data[:2] == MARKER and len(data) <= MAX_BYTES:
            return entry  # nearly always: the rest says what is wrong
        if len(data) < 10 or data[:2] != MARKER:
            raise ContractError(
                "not in single-object encoding",
                code="not_avro",
                hint="expected: C3 01, the schema's fingerprint, the Avro body; see docs/format.md",
            )
        if len(data) > MAX_BYTES:
            raise ContractError(f"{len(data)} bytes are above {MAX_BYTES}", code="too_large")
        entry = self._known(data[2:10])
        if entry is None:
            raise UnknownSchema(data[2:10])
        return entry

    def _known(self, fingerprint: bytes) -> _Entry | None:
        """Of a schema of today or learnt, or of one that is or once was ours, met now."""
        entry = self._book.get(fingerprint)
        if entry is None and (text := schemas.past(fingerprint)) is not None:
            entry = self._book[self.learn(text)]
        ours = schemas.meant(fingerprint) if entry is None else None
        if ours is not None and (entry := self._known(ours)) is not None:
            self._book[fingerprint] = entry
        return entry

    def _read(self, data: bytes | None) -> tuple[_Entry, dict[str, Any]]:
        data = data or b""
        entry = self._entry_of(data)
        return entry, self._whole(entry, data)

    @staticmethod
    def _whole(entry: _Entry, data: bytes) -> dict[str, Any]:
        """The plain values of a record that ends with its bytes. Raises: ContractError."""
        value, end = _values(entry.name, data, entry.writer, entry.reader)
        if end != len(data):
            raise ContractError(f"{entry.name}: bytes after its end", code="broken")
        if entry.reader is not None and entry.name in UPCASTS:
            UPCASTS[entry.name](value)
        return value

    def decode_fact(self, data: bytes | None) -> Fact:
        """An event with its envelope. Raises: UnknownSchema, ContractError."""
        entry, value = self._read(data)
        if entry.fact is None:
            raise ContractError(f"{entry.name} is no event", code="not_an_event")
        envelope, body = entry.fact
        try:
            return Fact(envelope(value.pop("envelope")), body(value))
        except ValidationError as error:
            raise ContractError(f"{entry.name}: {_first(error)}", code="invalid") from None

    def fact_head(self, data: bytes | None) -> FactHead:
        """What an event is and where it stands, read from its beginning alone.

        Raises: UnknownSchema, ContractError; what comes after the beginning is not looked at.
        """
        entry = self._entry_of(data or b"")
        if entry.fact is None or entry.head is None:
            envelope, body = self.decode_fact(data)
            found = {name: getattr(envelope, name) for name in FactHead._fields[1:]}
            return FactHead(type(body).__name__, **found)
        value, _ = _values(entry.name, data or b"", entry.head, None)
        return FactHead(
            entry.name, value["aggregate_id"], value["version"], value["seq"], value["stamp"]
        )

    def decode_request(self, data: bytes | None) -> Request:
        """A command with its header.

        Raises: UnknownSchema, ContractError: `broken` and `bad_field` name the field and what was
        expected. `unread.addressee` finds out who is to be answered all the same.
        """
        data = data or b""
        if len(data) > MAX_COMMAND_BYTES:
            raise ContractError(
                f"{len(data)} bytes are above {MAX_COMMAND_BYTES}", code="too_large"
            )
        entry = self._entry_of(data)
        if entry.command is None:
            raise ContractError(f"{entry.name} is no command", code="not_a_command")
        try:
            value = self._whole(entry, data)
        except ContractError as error:
            raise unread.misfit(entry.name, entry.writer, data) or error from None
        header, body = entry.command
        try:
            return Request(header(value.pop("header")), body(value))
        except ValidationError as error:
            raise unread.as_contract_error(door.misfit(error)) from None

    def decode_answer(self, data: bytes | None) -> CommandAnswered:
        """An answer. Raises: UnknownSchema, ContractError."""
        name, value = self.decode_dict(data)
        if name != "CommandAnswered":
            raise ContractError(f"{name} is no answer", code="not_an_answer")
        try:
            return CommandAnswered.model_validate(value)
        except ValidationError as error:
            raise ContractError(f"{name}: {_first(error)}", code="invalid") from None

    def decode_state(self, data: bytes | None) -> states.State:
        """A state record. Raises: UnknownSchema, ContractError."""
        name, value = self.decode_dict(data)
        for component, cls in STATES.items():
            if cls.__name__ == name:
                return state_from_dict(component, value)
        raise ContractError(f"{name} is no state", code="not_a_state")

    def state_head(self, component: str, data: bytes) -> StateHead:
        """Where a state record of `component` stands, read from its beginning alone.

        Raises: UnknownSchema, ContractError: also when it is no state of the component; what
        comes after the beginning is not looked at.
        """
        entry = self._entry_of(data)
        if entry.name != STATES[component].__name__:
            raise ContractError(f"{entry.name} does not belong here", code="wrong_topic")
        if entry.head is None:
            state = self.decode_state(data)
            return StateHead(state.key, state.epoch, state.version, state.stamp, data)
        found, _ = _values(entry.name, data, entry.head, None)
        return StateHead(**found, value=data)


def _first(error: ValidationError) -> str:
    """The first complaint, without the value (it may be a secret)."""
    item = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(str(p) for p in item['loc'])}: {item['msg']}"
