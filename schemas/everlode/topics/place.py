"""Whether a decoded record belongs where it was found, and what a dead letter says of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from everlode.avro.codec import Codec
from everlode.avro.unread import as_contract_error
from everlode.errors import ContractError, EverlodeError, Refusal
from everlode.events import door
from everlode.events.base import Fact
from everlode.events.catalogue import EVENTS, FACT_COMPONENTS
from everlode.events.types import fitting
from everlode.topics.names import CONTROL_TOPIC, split_fact_topic

TopicPartition = tuple[str, int]
"""A partition, by its topic and number."""


class End(NamedTuple):
    """The last that is known of a fact topic's partition: its `seq` and stamp; (0, 0): nothing."""

    seq: int = 0
    stamp: int = 0


LARGEST = 900_000
"""Bytes of a value that a dead letter keeps; a larger one, with its new headers, would not fit."""
LARGEST_KEY = LARGEST_HEADERS = 30_000
"""Bytes of a key, and of all headers together; larger ones are left out too."""
_HOME = {kind.model: kind.topic for kind in EVENTS.values()}


@lru_cache(maxsize=1000)
def _component(topic: str) -> str:
    return CONTROL_TOPIC if topic == CONTROL_TOPIC else split_fact_topic(topic)[1]


@lru_cache(maxsize=1000)
def _origin(topic: str) -> str:
    return split_fact_topic(topic)[0]


def check_place(topic: str, key: bytes | None, fact: Fact) -> None:
    """Every reader of facts, signals and the control log asks this, so that all leave out the same.

    Raises: ContractError: not of this topic, or of another origin (`wrong_topic`), no key
    (`null_key`), another's key (`wrong_key`), a fact without a version (`invalid`), or a heartbeat
    with a field that strangers may not send (`bad_field`).
    """
    envelope, data = fact
    home = _HOME[type(data)]
    if home != _component(topic) and (home != "*" or topic == CONTROL_TOPIC):
        name = type(data).__name__
        raise ContractError(f"{name} does not belong on {topic}", code="wrong_topic")
    if home in FACT_COMPONENTS and envelope.origin != _origin(topic):
        raise ContractError(f"a fact of {envelope.origin} on {topic}", code="wrong_topic")
    if key is None:
        raise ContractError("the record has no key", code="null_key")
    if key != envelope.aggregate_id.encode():
        raise ContractError("the key is not the aggregate's id", code="wrong_key")
    if envelope.version < 1 and home in FACT_COMPONENTS:
        raise ContractError("a fact without a version", code="invalid")
    if home == "heartbeats":
        try:
            door.check_signal(envelope, data)
        except Refusal as error:
            raise as_contract_error(error) from None


def placed(codec: Codec, topic: str, key: bytes | None, value: bytes | None) -> Fact:
    """A record's fact, when it fits and belongs where it was found.

    Raises: UnknownSchema, ContractError: see `Codec.decode_fact` and `check_place`.
    """
    fact = codec.decode_fact(value)
    check_place(topic, key, fact)
    return fact


class Letter(NamedTuple):
    """Key, value and headers of a record, or of the dead letter of one."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def letter(consumer: str, at: tuple[str, int, int], record: Letter, error: EverlodeError) -> Letter:
    """The dead letter of a record at (topic, partition, offset): as it was, and where and why.

    What is too large for its topic is left out, and its size stands for it: it is still where the
    record came from.
    """
    topic, partition, offset = at
    key, value, headers = record
    found = [
        ("dlt-consumer", consumer.encode()),
        ("dlt-topic", topic.encode()),
        ("dlt-partition", str(partition).encode()),
        ("dlt-offset", str(offset).encode()),
        ("dlt-code", error.code.encode()),
        ("dlt-message", fitting(error.message).encode()),  # it may quote a key, however long
    ]
    if value is not None and len(value) > LARGEST:
        found.append(("dlt-left-out", str(len(value)).encode()))
        value = None
    if key is not None and len(key) > LARGEST_KEY:
        found.append(("dlt-key-left-out", str(len(key)).encode()))
        key = None
    size = sum(len(name) + len(content or b"") for name, content in headers)
    if size > LARGEST_HEADERS:
        found.append(("dlt-headers-left-out", str(size).encode()))
        headers = ()
    return Letter(key, value, [*headers, *found])
