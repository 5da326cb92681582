"""Commands and heartbeats as strangers write them: mostly lawful, with extremes, and damaged bytes.

Values are written by Avro's types alone, so also those that no model would produce: negative
amounts, times in seconds, text that is no Unicode. Which of them must be answered is known.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args, get_origin

import fastavro
from hypothesis import strategies as st

from everlode.avro import schemas
from everlode.avro.codec import MARKER
from everlode.avro.fingerprints import FORMS, computed
from everlode.events.catalogue import COMMANDS, EVENTS
from everlode.events.door import _plain
from everlode.events.tasktypes import DEFAULT_TASK_TYPES
from everlode.state.fraud import case_id
from everlode.state.reward import reward_id, slash_id
from everlode.state.validation import validation_id
from tests.support.facts.state_commands import sha256_of

REPLY_TO = "fuzz"
LONGEST = 4096
TASKS = [f"eu/t-{n}" for n in range(12)]
MINERS = [f"eu/m-{n}" for n in range(6)]
SOLUTIONS = [f"s-{n}" for n in range(6)]
CASES = [case_id("copied-solution", m) for m in MINERS]
IDS = {
    "tasks": TASKS,
    "miners": MINERS,
    "validations": [validation_id(t, 1) for t in TASKS[:6]] + CASES,
    "rewards": [reward_id(t, m) for t in TASKS[:4] for m in MINERS[:3]]
    + [slash_id(case, m) for case in CASES[:2] for m in MINERS[:2]],
}
"""Component → ids of aggregates; few, so that commands meet."""
NAMED = {
    "miner_id": MINERS, "voter_id": MINERS, "suspects": MINERS, "reviewers": MINERS,
    "task_id": TASKS, "running": TASKS, "solution_id": SOLUTIONS, "case_id": CASES,
    "validation_id": IDS["validations"], "task_type": DEFAULT_TASK_TYPES,
    "specialties": DEFAULT_TASK_TYPES, "endpoint": ["127.0.0.1:1"],
}  # fmt: skip
"""Field → lawful texts."""
TEXTS = (
    ["", "a", "\0", "a\0b", "\x85", "\n", "x" * 255, "x" * 256, "x" * 4096, "x" * 4097, "Ω𝄞",
     "v-|", "a|b", "‮", "'; drop table tasks; --", "%s%(x)s{}", "AB" * 32, "null", "../../x",
     b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80"]
)  # fmt: skip
"""Bytes: what is no UTF-8."""
LONGS = (
    [-(2**63), -1, 0, 1, 10**6, 10**6 + 1, 10**9, 10**9 + 1, 2**49 + 1, 10**15, 10**15 + 1,
     2**53 + 1, 2**62, 2**63 - 1, -62_135_596_800_001, 253_402_300_800_000]
)  # fmt: skip


class Hostile(NamedTuple):
    """A record for a topic, and what must come of it."""

    component: str
    """Whose topic it goes to."""
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]]
    asked: tuple[str, str]
    """Aggregate and command id, as far as they are texts."""
    answered: bool | None
    """None: by chance."""
    kind: str
    """Type and damage."""


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def lawful(name: str, annotation: Any) -> st.SearchStrategy[Any]:
    """Values of a model's field that are most often let in, as Avro's plain values."""
    (kind,) = _plain(annotation)
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.sampled_from([1, 2, 3, 1000] if name != "attempt" else [1, 2])
    if kind is str:
        return st.sampled_from(_texts(name))
    if get_origin(kind) is tuple:
        return st.lists(lawful(name, get_args(kind)[0]), max_size=3, unique_by=repr)
    if isinstance(kind, type) and hasattr(kind, "model_fields"):
        return st.fixed_dictionaries(
            {n: lawful(n, field.annotation) for n, field in kind.model_fields.items()}
        )
    return st.sampled_from([-60_000, 3_600_000, 86_400_000]).map(lambda ms: now_ms() + ms)


def _texts(name: str) -> Any:
    if name.endswith("sha256"):
        return [sha256_of(str(n)) for n in range(3)]
    return NAMED.get(name, ["text"])


def extreme(schema: Any) -> st.SearchStrategy[Any]:
    """Values of an Avro type, whatever its field means."""
    if isinstance(schema, list):
        return st.one_of([extreme(part) for part in schema])
    if isinstance(schema, dict):
        if schema["type"] == "array":
            few = st.lists(extreme(schema["items"]), max_size=3)
            many = few.map(lambda items: items[:1] * (90_000 // (len((*items, "")[0]) + 2)))
            return few | many if schema["items"] == "string" else few
        if schema["type"] == "record":
            return st.fixed_dictionaries({f["name"]: extreme(f["type"]) for f in schema["fields"]})
        schema = schema["type"]
    return {
        "null": st.none(), "string": st.sampled_from(TEXTS), "boolean": st.booleans(),
        "long": st.sampled_from(LONGS) | st.integers(-(2**63), 2**63 - 1),
    }[schema]  # fmt: skip


def _bytes(schema: Any) -> Any:
    """The schema with bytes for text, which is written alike, and without logical types."""
    if isinstance(schema, str):
        return "bytes" if schema == "string" else schema
    if isinstance(schema, list):
        return [_bytes(part) for part in schema]
    found = {name: part for name, part in schema.items() if name != "logicalType"}
    for name in ("type", "items"):
        if name in found and found["type"] not in ("record",):
            found[name] = _bytes(found[name]) if found[name] != "array" else "array"
    if "fields" in found:
        found["fields"] = [{**f, "type": _bytes(f["type"])} for f in found["fields"]]
        for field in found["fields"]:
            field.pop("default", None)
    return found


def _written(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _written(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_written(part) for part in value]
    return value.encode() if isinstance(value, str) else value


def encoded(name: str, value: dict[str, Any]) -> bytes:
    """A record's bytes, of values that Avro's types hold."""
    out = io.BytesIO()
    schema = fastavro.parse_schema(_bytes(schemas.raw(name)), named_schemas={})
    fastavro.schemaless_writer(out, schema, _written(value))
    return MARKER + schemas.fingerprint(name) + out.getvalue()


@st.composite
def bodies(draw: st.DrawFn, name: str, model: Any, head: dict[str, Any]) -> dict[str, Any]:
    """Fields of a record by name, its head first: lawful ones, of which a few are replaced."""
    fields = {field["name"]: field["type"] for field in schemas.raw(name)["fields"]}
    head_name, head_type = next(iter(fields.items()))
    inner = {field["name"]: field["type"] for field in head_type["fields"]}
    value = {n: draw(lawful(n, field.annotation)) for n, field in model.model_fields.items()}
    head = dict(head)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        at = draw(st.sampled_from([n for n in fields if n != head_name] or ["issued_at"]))
        if at in value:
            value[at] = draw(extreme(fields[at]))
    if draw(st.sampled_from([False] * 7 + [True])):
        at = draw(st.sampled_from([n for n in inner if n != "reply_to"]))
        head[at] = draw(extreme(inner[at]))
    return {head_name: head, **value}


def _swapped(value: bytes) -> bytes:
    return value[:2] + value[9:1:-1] + value[10:]


def _as_go_has_it(value: bytes, name: str) -> bytes:
    mark = computed(schemas.raw(name))[next(iter(FORMS))]
    return value[:2] + bytes.fromhex(mark) + value[10:]


def _structured(value: bytes, name: str) -> bytes:
    document = {
        "specversion": "1.0", "id": "1", "source": "/x", "type": f"everlode.{name}",
        "datacontenttype": "application/avro", "data_base64": base64.b64encode(value).decode(),
    }  # fmt: skip
    return json.dumps(document).encode()


FRAMES: dict[str, Callable[[bytes, str], bytes]] = {
    "swapped": lambda value, _: _swapped(value),
    "of-a-library": _as_go_has_it,
    "unknown": lambda value, _: value[:2] + b"nobody's" + value[10:],
    "registry": lambda value, _: b"\0\0\0\0\x07" + value[10:],
    "bare": lambda value, _: value[10:],
    "structured": _structured,
    "trailing": lambda value, _: value + b"\0",
    "large": lambda value, _: value + bytes(120_000),
    "huge": lambda value, _: value + bytes(700_000),
}
"""Another framing or more bytes: whoever sent it can be found all the same."""
WHERE = st.integers(0, 2**20)
"""A byte, modulo the record's length: what is drawn must not depend on the record's number."""
NO_UNICODE = {"command_id": "\ud800", "aggregate_id": "t-0", "reply_to": REPLY_TO}
"""A header as JSON can hold it, and neither Avro nor Kafka."""
OTHERS = ["cut", "flipped", "null-key", "wrong-key", "null", "elsewhere", "no-unicode"]
DAMAGES = [*["none"] * 60, *[d for d in (*FRAMES, *OTHERS) if d != "huge"] * 4, "huge"]


@st.composite
def hostile_commands(draw: st.DrawFn, number: int) -> Hostile:
    """A command, the `number`-th."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    model = COMMANDS[name]
    head = {
        "command_id": f"f-{number}" if draw(st.integers(0, 9)) else "f-again",
        "aggregate_id": draw(st.sampled_from(IDS[model.component])), "issued_by": "stranger",
        "reply_to": REPLY_TO, "issued_at": now_ms(), "correlation_id": "c", "causation_id": None,
    }  # fmt: skip
    body = draw(bodies(name, model, head))
    head = body["header"]
    good, damage = encoded(name, body), draw(st.sampled_from(DAMAGES))
    at = draw(WHERE) % len(good)
    key, value = damaged(name, damage, at, (_written(head["aggregate_id"]), good))
    elsewhere = st.sampled_from(sorted(IDS)) if damage == "elsewhere" else st.just(model.component)
    ids = (head["aggregate_id"], head["command_id"])
    first = [head[n] for n in ("command_id", "aggregate_id", "issued_by", "reply_to")]
    readable = all(isinstance(x, str) for x in first) and max(map(len, ids)) <= LONGEST
    answered: bool | None = readable and damage not in ("null", "no-unicode")
    if damage in ("cut", "flipped") and at < 10 + sum(len(_text(x)) for x in first):
        answered = None if damage == "flipped" else False
    asked = [text if isinstance(text, str) else "" for text in ids]
    return Hostile(
        draw(elsewhere), key, value, [], (asked[0], asked[1]), answered, f"{name} {damage}"
    )


def usual(name: str, annotation: Any, number: int) -> Any:
    """One lawful value of a model's field; ids of what is new have the number in them."""
    (kind,) = _plain(annotation)
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if kind is bool:
        return True
    if kind is int:
        return 1
    if kind is str:
        return f"x-{number}" if name == "solution_id" else _texts(name)[0]
    if get_origin(kind) is tuple:
        return [usual(name, get_args(kind)[0], number)]
    if isinstance(kind, type) and hasattr(kind, "model_fields"):
        return {n: usual(n, f.annotation, number) for n, f in kind.model_fields.items()}
    return now_ms() + 3_600_000


OPERATOR = "judge"
"""Whom the topology of a test's region names."""
NEW = {
    "SubmitTask": "eu/x-{}", "RegisterMiner": "eu/x-{}", "RequestValidation": "eu/v-x-{}",
    "OpenFraudCase": "eu/case-copied-solution-x-{}", "CalculateReward": "eu/x-{}|eu/m-0",
}  # fmt: skip
"""Commands that begin something → its id."""


def extremes(schema: Any) -> Iterator[Any]:
    """Values of an Avro type, one for each extreme."""
    if isinstance(schema, list):
        for part in schema:
            yield from extremes(part)
    elif isinstance(schema, dict) and schema["type"] == "array":
        yield []
        for item in extremes(schema["items"]):
            yield from ([item], [item, item])
    elif isinstance(schema, dict) and schema["type"] == "record":
        return  # its fields are reached by chance
    else:
        kind = schema["type"] if isinstance(schema, dict) else schema
        by_kind: dict[str, Sequence[Any]] = {
            "null": [None], "string": TEXTS, "long": LONGS, "boolean": [False],
        }  # fmt: skip
        yield from by_kind[kind]


def every_extreme() -> Iterator[Hostile]:
    """Each command, lawful but for one field, which takes each of its extremes."""
    number = 0
    for name, model in sorted(COMMANDS.items()):
        fields = {field["name"]: field["type"] for field in schemas.raw(name)["fields"][1:]}
        for field, value in [(f, v) for f, kind in fields.items() for v in extremes(kind)]:
            number += 1
            key = NEW.get(name, IDS[model.component][0]).format(number)
            head = {
                "command_id": f"e-{number}", "aggregate_id": key, "issued_by": OPERATOR,
                "reply_to": REPLY_TO, "issued_at": now_ms(), "correlation_id": "c",
                "causation_id": None,
            }  # fmt: skip
            body = {n: usual(n, f.annotation, number) for n, f in model.model_fields.items()}
            if name == "CalculateReward":
                body["task_id"] = f"eu/x-{number}"
            value = encoded(name, {"header": head, **body, field: value})
            kind = f"{name}.{field}"
            yield Hostile(
                model.component, key.encode(), value, [], (key, f"e-{number}"), True, kind
            )


def damaged(
    name: str, damage: str, at: int, good: tuple[bytes, bytes]
) -> tuple[bytes | None, bytes | None]:
    """Key and value of a good record, damaged; `at`: which byte."""
    key, value = good
    if damage in FRAMES:
        return key, FRAMES[damage](value, name)
    made: dict[str, tuple[bytes | None, bytes | None]] = {
        "cut": (key, value[:at]),
        "flipped": (key, value[:at] + bytes([value[at] ^ 255]) + value[at + 1 :]),
        "null-key": (None, value),
        "wrong-key": (b"another", value),
        "null": (key, None),
        "no-unicode": (key, json.dumps({"header": NO_UNICODE}).encode()),
    }
    return made.get(damage, good)


def _text(value: str | bytes) -> bytes:
    """A text as Avro writes it."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "bytes", _written(value))
    return out.getvalue()


BEATS = ("Barrier", "MinerBeat", "NodeBeat", "ProbeAnswered")
"""What strangers put among heartbeats."""
LOCAL = ("127.0.0.1:1", "", "127.0.0.1:x", "\0", ":", "[::1]:1")
"""Endpoints: a probe must not leave this machine."""


def _beat_head(number: int) -> dict[str, Any]:
    """The head of a lawful heartbeat; never under the name of a real node."""
    return {
        "event_id": f"f-{number}", "aggregate_id": f"ghost-{number % 7}", "version": 0,
        "origin": "eu.1", "scope": "", "epoch": 0, "seq": number, "stamp": now_ms() << 16,
        "occurred_at": now_ms(), "command_id": None, "correlation_id": "c", "causation_id": None,
        "source_topic": None, "source_partition": None, "source_position": None,
    }  # fmt: skip


def every_extreme_heartbeat() -> Iterator[Hostile]:
    """Each kind of record among heartbeats, lawful but for one field of its head or body, which
    takes each of its extremes; endpoints as LOCAL."""
    number = 0
    for name in BEATS:
        head_type, *rest = schemas.raw(name)["fields"]
        heads = [(field, True) for field in head_type["type"]["fields"]]
        for field, of_head in [*heads, *((field, False) for field in rest)]:
            values = LOCAL if field["name"] == "endpoint" else extremes(field["type"])
            for value in values:
                number += 1
                head, model = _beat_head(number), EVENTS[name].model
                body = {n: usual(n, f.annotation, number) for n, f in model.model_fields.items()}
                (head if of_head else body)[field["name"]] = value
                key, kind = _written(head["aggregate_id"]), f"{name}.{field['name']}"
                good = encoded(name, {head_type["name"]: head, **body})
                yield Hostile("heartbeats", key, good, [], ("", ""), None, kind)


@st.composite
def hostile_heartbeats(draw: st.DrawFn, number: int) -> Hostile:
    """A heartbeat, or what a stranger puts in its place."""
    name, head = draw(st.sampled_from(BEATS)), _beat_head(number)
    body = draw(bodies(name, EVENTS[name].model, head))
    if "endpoint" in body:
        body["endpoint"] = draw(st.sampled_from(LOCAL))
    good, damage = encoded(name, body), draw(st.sampled_from(DAMAGES))
    at = draw(WHERE) % len(good)
    key, value = damaged(name, damage, at, (_written(body["envelope"]["aggregate_id"]), good))
    return Hostile("heartbeats", key, value, [], ("", ""), None, f"{name} {damage}")
