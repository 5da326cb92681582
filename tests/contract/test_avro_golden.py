"""Bytes that every other implementation must give and take, and an encoder of our own to check.

The encoder below is written from the Avro specification alone; fastavro and it must agree.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from everlode.avro import codec, schemas
from everlode.avro.cloudevents import command_headers, event_headers
from everlode.avro.codec import Codec
from everlode.events.base import CommandHeader, Envelope, Event, Evidence, LedgerEntry
from everlode.events.commands import CancelTask
from everlode.events.miners import StakeSlashed
from everlode.events.rewards import RewardCalculated
from everlode.events.tasks import TaskProgressed
from everlode.events.validations import FraudSuspected, VoteCast

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def envelope(aggregate_id: str, scope: str) -> Envelope:
    return Envelope(
        event_id="0b7c2f8e-1111-5222-8333-444455556666",
        aggregate_id=aggregate_id,
        version=3,
        origin="eu.1",
        scope=scope,
        epoch=2,
        seq=130,
        stamp=115_000_000_000_000_000,
        occurred_at=NOW,
        command_id="c-1",
        correlation_id="c-1",
        source_topic="eu.commands.tasks",
        source_partition=1,
        source_position=77,
    )


EVENTS: dict[str, tuple[Envelope, Event]] = {
    "task": (
        envelope("t-1", "task-manager/eu"),
        TaskProgressed(
            attempt=1,
            miner_id="m-1",
            progress_ppm=250_000,
            checkpoint_uri="s3://c/1",
            lease_until=NOW + timedelta(minutes=1),
        ),
    ),
    "miner": (
        envelope("m-1", "miner-registry/eu"),
        StakeSlashed(case_id="case-1", amount_micro=900_000, from_locked_micro=200_000),
    ),
    "validation": (
        envelope("v-s-1", "validation/eu"),
        VoteCast(voter_id="m-2", voter_kind="peer-review", accept=True, score_ppm=900_000),
    ),
    "fraud": (
        envelope("case-1", "validation/eu"),
        FraudSuspected(
            rule="copied-solution",
            suspects=("m-1", "m-2"),
            task_id="t-1",
            severity_ppm=900_000,
            evidence=(Evidence(topic="eu.1.tasks", partition=1, offset=-1, note="é"),),
        ),
    ),
    "reward": (
        envelope("t-1|m-1", "rewards/eu"),
        RewardCalculated(
            task_id="t-1",
            miner_id="m-1",
            validation_id="v-s-1",
            base_micro=1_000_000,
            score_ppm=900_000,
            amount_micro=900_000,
            formula=1,
            entries=(
                LedgerEntry(account="treasury", amount_micro=-900_000),
                LedgerEntry(account="payable:m-1", amount_micro=900_000),
            ),
        ),
    ),
}
GOLDEN: dict[str, str] = {
    "task": """
        c301871d48e8f951c3d74830623763326638652d313131312d353232322d383333332d34343434353535
        353636363606742d31060865752e311e7461736b2d6d616e616765722f65750484028080dcd280f9c798
        03dcbccccaef660206632d3106632d3100022265752e636f6d6d616e64732e7461736b730202029a0102
        066d2d31a0c21e021073333a2f2f632f319ce6d3caef66
    """,
    "miner": """
        c301e671cd441843b8d64830623763326638652d313131312d353232322d383333332d34343434353535
        3536363636066d2d31060865752e31226d696e65722d72656769737472792f65750484028080dcd280f9
        c79803dcbccccaef660206632d3106632d3100022265752e636f6d6d616e64732e7461736b730202029a
        010c636173652d3100c0ee6d80b518
    """,
    "validation": """
        c301ee42fc7b995607a34830623763326638652d313131312d353232322d383333332d34343434353535
        35363636360a762d732d31060865752e311a76616c69646174696f6e2f65750484028080dcd280f9c798
        03dcbccccaef660206632d3106632d3100022265752e636f6d6d616e64732e7461736b730202029a0106
        6d2d3216706565722d72657669657701c0ee6d
    """,
    "fraud": """
        c301dc01ccefd895c56b4830623763326638652d313131312d353232322d383333332d34343434353535
        35363636360c636173652d31060865752e311a76616c69646174696f6e2f65750484028080dcd280f9c7
        9803dcbccccaef660206632d3106632d3100022265752e636f6d6d616e64732e7461736b730202029a01
        1e636f706965642d736f6c7574696f6e04066d2d31066d2d32000206742d3100c0ee6d021465752e312e
        7461736b73020104c3a90000
    """,
    "reward": """
        c301b800b0a7e9fea69f4830623763326638652d313131312d353232322d383333332d34343434353535
        35363636360e742d317c6d2d31060865752e3114726577617264732f65750484028080dcd280f9c79803
        dcbccccaef660206632d3106632d3100022265752e636f6d6d616e64732e7461736b730202029a010674
        2d31066d2d310a762d732d3180897ac0ee6dc0ee6d0204107472656173757279bfee6d1670617961626c
        653a6d2d31c0ee6d00
    """,
}


def long(value: int) -> bytes:
    """Zig-zag, then seven bits a byte, lowest first."""
    rest, out = (value << 1) ^ (value >> 63), bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


def encode(schema: Any, value: Any, names: dict[str, Any]) -> bytes:
    """Avro's binary encoding, as far as our schemas use it."""
    if isinstance(schema, list):
        branch = 0 if value is None else 1
        return long(branch) + encode(schema[branch], value, names)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind in names:
        return encode(names[kind], value, names)
    if kind == "null":
        return b""
    if kind == "boolean":
        return b"\1" if value else b"\0"
    if kind == "long":
        if isinstance(value, datetime):
            value = (value - EPOCH) // timedelta(milliseconds=1)
        return long(value)
    if kind == "double":
        return struct.pack("<d", value)
    if kind == "string":
        data: bytes = value.encode()
        return long(len(data)) + data
    if kind == "array":
        items = b"".join(encode(schema["items"], item, names) for item in value)
        return (long(len(value)) + items if value else b"") + long(0)
    assert kind == "record", kind
    names[f"{schema['namespace']}.{schema['name']}"] = schema
    parts = [encode(f["type"], value[f["name"]], names) for f in schema["fields"]]
    return b"".join(parts)


def crc_64_avro(data: bytes) -> bytes:
    """The fingerprint of the specification, lowest byte first."""
    empty = 0xC15D213AA4D7A795
    value = empty
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (empty if value & 1 else 0)
    return struct.pack("<Q", value)


@pytest.mark.parametrize("aggregate", sorted(EVENTS))
def test_event_has_its_golden_bytes(aggregate: str) -> None:
    head, event = EVENTS[aggregate]
    encoded = codec.encode_fact(head, event)
    assert encoded.hex() == GOLDEN[aggregate].replace("\n", "").replace(" ", "")
    assert Codec().decode_fact(bytes.fromhex(GOLDEN[aggregate])) == (head, event)


@pytest.mark.parametrize("aggregate", sorted(EVENTS))
def test_event_agrees_with_an_encoder_of_the_specification(aggregate: str) -> None:
    head, event = EVENTS[aggregate]
    name = type(event).__name__
    value = {"envelope": head.model_dump(), **event.model_dump()}
    body = encode(schemas.raw(name), value, {})
    assert codec.encode_fact(head, event) == b"\xc3\x01" + schemas.fingerprint(name) + body


def test_fingerprint_is_that_of_the_specification() -> None:
    from fastavro.schema import to_parsing_canonical_form

    for name in schemas.names():
        canonical = to_parsing_canonical_form(schemas.raw(name))
        assert schemas.fingerprint(name) == crc_64_avro(canonical.encode())
    assert crc_64_avro(b'"null"') == bytes.fromhex("63dd24e7cc258f8a")[::-1]


def test_cloudevents_headers_tell_tools_what_the_body_says() -> None:
    head, event = EVENTS["task"]
    assert event_headers(head, type(event).__name__) == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"0b7c2f8e-1111-5222-8333-444455556666"),
        ("ce_type", b"everlode.TaskProgressed"),
        ("ce_source", b"/eu.1/task-manager/eu"),
        ("ce_subject", b"t-1"),
        ("ce_time", b"2026-01-02T03:04:05.678000+00:00"),
        ("content-type", b"application/avro"),
    ]
    header = CommandHeader(
        command_id="c",
        aggregate_id="t",
        issued_by="client",
        reply_to="r",
        issued_at=NOW,
        correlation_id="c",
    )
    assert dict(command_headers(header, CancelTask.__name__))["ce_source"] == b"/client"
