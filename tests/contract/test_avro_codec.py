"""The codec: what goes in comes out, and nothing else does."""

from __future__ import annotations

import io
import json
import types
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel

from everlode.avro import codec, plain, schemas
from everlode.avro.codec import Codec, UnknownSchema
from everlode.avro.compat import load_past
from everlode.errors import ContractError
from everlode.events import commands as c
from everlode.events import states
from everlode.events.base import CommandAnswered, CommandHeader, Envelope, Event, Record
from everlode.events.catalogue import COMMANDS, EVENTS, STATES
from everlode.events.schemas import SchemaPublished

INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(
    lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)
)
LETTERS = st.characters(exclude_categories=["Cs"])  # no lone surrogates
TEXTS = st.text(LETTERS, max_size=20)
BOOK = Codec()


def bounds(metadata: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in [part for m in metadata for part in (m, *getattr(m, "metadata", ()))]:
        for name in ("ge", "le", "min_length", "max_length", "pattern"):
            value = getattr(item, name, None)
            if value is not None:
                found[name] = value
    return found


def scalars(annotation: Any, limits: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of a field without parts."""
    if annotation is int:
        return st.integers(limits.get("ge", -(2**63)), limits.get("le", 2**63 - 1))
    if annotation is bool:
        return st.booleans()
    if annotation is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if annotation in (datetime, AwareDatetime):
        return INSTANTS
    assert annotation is str, annotation
    if "pattern" in limits:
        return st.text("0123456789abcdef", min_size=64, max_size=64)
    return st.text(LETTERS, min_size=limits.get("min_length", 0), max_size=20)


def values(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    """Values that a field of a model or named tuple takes."""
    origin, args = get_origin(annotation), get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return values(annotation.__origin__, [*metadata, *annotation.__metadata__])
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (Union, types.UnionType):
        inner = [a for a in args if a is not type(None)]
        return st.none() | st.one_of([values(a, metadata) for a in inner])
    if origin is tuple:
        return st.lists(values(args[0], []), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(TEXTS, st.integers(0, 2**62), max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return models(annotation)
    if isinstance(annotation, type) and issubclass(annotation, tuple):
        return named_tuples(annotation)
    return scalars(annotation, bounds(metadata))


@cache
def models(model: Any) -> st.SearchStrategy[Any]:
    fields = {
        name: values(field.annotation, field.metadata) for name, field in model.model_fields.items()
    }
    return st.builds(model, **fields)


@cache
def named_tuples(cls: Any) -> st.SearchStrategy[Any]:
    hints = get_type_hints(cls)
    fields = {name: values(hint, []) for name, hint in hints.items()}
    return st.builds(cls, **fields)


def one_event(name: str) -> tuple[Envelope, Event]:
    found: list[tuple[Envelope, Event]] = []

    @settings(max_examples=1, database=None, derandomize=True)
    @given(models(Envelope), models(EVENTS[name].model))
    def take(envelope: Envelope, data: Event) -> None:
        found.append((envelope, data))

    take()
    return found[0]


@pytest.mark.parametrize("name", sorted(EVENTS))
@settings(max_examples=15)
@given(data=st.data())
def test_event_encoded_and_decoded_is_equal(name: str, data: st.DataObject) -> None:
    envelope, event = data.draw(models(Envelope)), data.draw(models(EVENTS[name].model))
    encoded = codec.encode_fact(envelope, event)
    assert BOOK.decode_fact(encoded) == (envelope, event)
    assert codec.encode_fact(envelope, event) == encoded


@pytest.mark.parametrize("name", sorted(COMMANDS))
@settings(max_examples=15)
@given(data=st.data())
def test_command_encoded_and_decoded_is_equal(name: str, data: st.DataObject) -> None:
    header, command = data.draw(models(CommandHeader)), data.draw(models(COMMANDS[name]))
    assert BOOK.decode_request(codec.encode_request(header, command)) == (header, command)


@pytest.mark.parametrize("component", sorted(STATES))
@settings(max_examples=25)
@given(data=st.data())
def test_state_encoded_and_decoded_is_equal(component: str, data: st.DataObject) -> None:
    kind: Any = STATES[component]
    state = data.draw(named_tuples(kind))
    assert BOOK.decode_state(codec.encode_state(state)) == state
    assert plain.state_from_dict(component, plain.state_dict(state)) == state


@settings(max_examples=25)
@given(st.data(), st.randoms(use_true_random=False))
def test_bytes_of_a_state_do_not_depend_on_the_order_of_its_maps(
    data: st.DataObject, random: Any
) -> None:
    kind: Any = STATES["miners"]
    state = data.draw(named_tuples(kind))
    items = list(state.locks.items())
    random.shuffle(items)
    assert codec.encode_state(state._replace(locks=dict(items))) == codec.encode_state(state)


@settings(max_examples=25)
@given(models(CommandAnswered))
def test_answer_encoded_and_decoded_is_equal(answer: CommandAnswered) -> None:
    assert BOOK.decode_answer(codec.encode_answer(answer)) == answer


def decode_anything(data: bytes | None) -> None:
    """Every decoder gives a record or a ContractError, never anything else."""
    for decode in (
        BOOK.decode_fact,
        BOOK.decode_request,
        BOOK.decode_answer,
        BOOK.decode_state,
        BOOK.decode_dict,
    ):
        try:
            decode(data)
        except ContractError:
            continue


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_random_bytes_are_a_contract_error(data: bytes) -> None:
    with pytest.raises(ContractError):
        BOOK.decode_dict(data)


@settings(max_examples=400)
@given(st.sampled_from(schemas.names()), st.binary(max_size=300))
def test_random_body_under_a_known_fingerprint_is_a_record_or_a_contract_error(
    name: str, body: bytes
) -> None:
    decode_anything(codec.MARKER + schemas.fingerprint(name) + body)


@settings(max_examples=200)
@given(st.sampled_from(sorted(EVENTS)), st.data())
def test_damaged_event_is_a_record_or_a_contract_error(name: str, data: st.DataObject) -> None:
    envelope, event = data.draw(models(Envelope)), data.draw(models(EVENTS[name].model))
    encoded = bytearray(codec.encode_fact(envelope, event))
    at = data.draw(st.integers(10, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    decode_anything(bytes(encoded))


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_event_cut_anywhere_is_a_contract_error(name: str) -> None:
    encoded = codec.encode_fact(*one_event(name))
    for length in range(len(encoded)):
        with pytest.raises(ContractError):
            BOOK.decode_fact(encoded[:length])


def test_event_with_bytes_after_its_end_is_a_contract_error() -> None:
    encoded = codec.encode_fact(*one_event("Barrier"))
    with pytest.raises(ContractError, match="after its end"):
        BOOK.decode_fact(encoded + b"\0")


def test_null_record_is_a_contract_error() -> None:
    with pytest.raises(ContractError):
        BOOK.decode_fact(None)


def test_unknown_fingerprint_names_it() -> None:
    with pytest.raises(UnknownSchema) as caught:
        BOOK.decode_fact(codec.MARKER + b"\1\2\3\4\5\6\7\x08" + b"\0" * 20)
    assert caught.value.fingerprint == b"\1\2\3\4\5\6\7\x08"
    assert "0102030405060708" in caught.value.message


def test_fingerprint_of_another_type_is_a_contract_error() -> None:
    encoded = codec.encode_fact(*one_event("Barrier"))
    swapped = codec.MARKER + schemas.fingerprint("TaskSubmitted") + encoded[10:]
    with pytest.raises(ContractError):
        BOOK.decode_fact(swapped)


def test_wrong_kind_of_record_is_a_contract_error() -> None:
    encoded = codec.encode_fact(*one_event("Barrier"))
    for decode in (BOOK.decode_request, BOOK.decode_answer, BOOK.decode_state):
        with pytest.raises(ContractError):
            decode(encoded)


def test_endless_string_is_a_contract_error() -> None:
    huge = b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    for length in (huge, b"\x01", b"\x03"):  # 2**63 - 1, -1, -2
        with pytest.raises(ContractError):
            BOOK.decode_fact(codec.MARKER + schemas.fingerprint("Barrier") + length + b"x")


def test_too_large_event_is_refused_with_a_way_out() -> None:
    envelope, _ = one_event("Barrier")
    document = "x" * 200_000
    event = SchemaPublished(fingerprint="", schema_name="", document=document)
    assert len(codec.encode_fact(envelope, event)) < codec.MAX_BYTES
    with pytest.raises(ContractError) as caught:
        codec.encode_record(
            "SchemaPublished",
            {
                "envelope": envelope.__dict__,
                **event.__dict__,
                "document": "x" * codec.MAX_BYTES,
            },
        )
    assert caught.value.code == "too_large"
    assert "URI" in caught.value.hint
    with pytest.raises(ContractError, match="above"):
        BOOK.decode_fact(codec.MARKER + b"x" * codec.MAX_BYTES)


def test_too_large_command_is_refused_on_both_sides() -> None:
    header = CommandHeader(
        command_id="c", aggregate_id="m", issued_by="x", reply_to="r", correlation_id="s",
        issued_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    fits = c.UpdateMiner(endpoint="e", specialties=("x" * 4000,) * 24, max_concurrent=1)
    assert BOOK.decode_request(codec.encode_request(header, fits)).data == fits
    large = fits.model_copy(update={"specialties": ("x" * 4000,) * 25})
    with pytest.raises(ContractError) as caught:
        codec.encode_request(header, large)
    assert caught.value.code == "too_large"
    written = codec.encode_record("UpdateMiner", {"header": header.__dict__, **large.__dict__})
    with pytest.raises(ContractError, match="above"):
        BOOK.decode_request(written)


def test_times_in_any_zone_keep_their_instant() -> None:
    envelope, event = one_event("Barrier")
    zone = timezone(timedelta(hours=5, minutes=45))
    moved = envelope.model_copy(update={"occurred_at": envelope.occurred_at.astimezone(zone)})
    decoded, _ = BOOK.decode_fact(codec.encode_fact(moved, event))
    assert decoded.occurred_at == envelope.occurred_at


def older(name: str, without: str) -> str:
    raw = json.loads(json.dumps(schemas.raw(name)))
    raw["fields"] = [f for f in raw["fields"] if f["name"] != without]
    return json.dumps(raw)


def test_learnt_schema_without_an_optional_field_is_read_with_its_default() -> None:
    book, (envelope, event) = Codec(), one_event("TaskProgressed")
    schema = older("TaskProgressed", "checkpoint_uri")
    key = book.learn(schema)
    assert book.knows(key)
    assert book.learn(schema) == key
    out = io.BytesIO()
    body = {"envelope": envelope.__dict__, **event.__dict__}
    fastavro.schemaless_writer(out, json.loads(schema), body)
    _, decoded = book.decode_fact(codec.MARKER + key + out.getvalue())
    assert decoded == event.model_copy(update={"checkpoint_uri": None})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '"string"',
        "null",
        '{"type": "record", "name": "everlode.events.Nothing", "fields": []}',
        '{"type": "record", "name": "everlode.events.Barrier", "fields": []}',
        older("TaskProgressed", "miner_id"),
        '{"type": "nonsense", "name": "everlode.events.Barrier"}',
    ],
)
def test_learning_what_is_no_schema_of_ours_is_a_contract_error(text: str) -> None:
    with pytest.raises(ContractError):
        Codec().learn(text)


def hostile(extra: Any) -> str:
    raw = json.loads(json.dumps(schemas.raw("Barrier")))
    raw["fields"].insert(0, {"name": "extra", "type": extra})
    return json.dumps(raw)


@pytest.mark.parametrize(
    "extra",
    [
        {"type": "array", "items": "null"},
        {"type": "array", "items": {"type": "array", "items": "null"}},
        {"type": "array", "items": {"type": "record", "name": "E", "fields": []}},
        {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}},
        ["null", "everlode.events.Barrier"],
        {"type": "map", "values": ["null", {"type": "array", "items": "null"}]},
    ],
)
def test_learning_a_schema_that_could_read_for_ever_is_a_contract_error(extra: Any) -> None:
    with pytest.raises(ContractError):
        Codec().learn(hostile(extra))


def test_learning_a_schema_that_unfolds_hugely_is_a_contract_error() -> None:
    inner: Any = {"type": "record", "name": "N0", "fields": []}
    for n in range(1, 60):
        name = inner["name"]
        fields = [{"name": "a", "type": inner}, {"name": "b", "type": name}]
        inner = {"type": "record", "name": f"N{n}", "fields": fields}
    with pytest.raises(ContractError, match="unfolds to"):
        Codec().learn(hostile(inner))


def test_learning_a_deep_schema_is_a_contract_error() -> None:
    deep = '{"type": "array", "items": ' * 5000 + '"long"' + "}" * 5000
    text = json.dumps(schemas.raw("Barrier")).replace('"fields": [', '"fields": [%s', 1)
    with pytest.raises(ContractError):
        Codec().learn(text % f'{{"name": "extra", "type": {deep}}}, ')


def test_every_record_model_is_in_the_catalogue() -> None:
    def family(cls: type[Record]) -> set[type[Record]]:
        return {cls}.union(*(family(sub) for sub in cls.__subclasses__()))

    known = {kind.model for kind in EVENTS.values()}
    assert family(Event) - {Event} == known
    assert {s for s in vars(states).values() if isinstance(s, type)} >= set(STATES.values())


def test_codec_reads_every_schema_that_once_was_ours_without_being_told() -> None:
    """A log of a component is read with what is here: nobody teaches it."""
    read = 0
    for name, versions in load_past().items():
        for text in versions.values():
            mark = schemas.fingerprint_of(text)
            if mark == schemas.fingerprint(name):
                continue
            assert schemas.past(mark) is not None, name
            assert Codec().type_name(codec.MARKER + mark) == name
            read += 1
    assert read > 5
    assert schemas.past(b"12345678") is None
