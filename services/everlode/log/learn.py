"""Schemas of newer writers, from the `.schemas` topics. Shell."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing

from everlode.adapters.kafka import Raw, Reader
from everlode.avro.codec import Codec
from everlode.errors import ContractError
from everlode.events.schemas import SchemaPublished
from everlode.topics.names import fact_topic

SCHEMA_WAIT_S = 30.0
"""A record whose schema has not come so long after the last one that did is quarantined."""
STILL_S = 30.0
"""A topic of schemas of which nothing comes for so long does not answer."""
SCHEMA_LOOK_S = 1.0
"""A fingerprint that was waited for in vain is looked for again, but not waited for."""
MOST_IN_VAIN = 10_000
Learn = Callable[[Codec, bytes], bool]
"""Waits until the codec knows the fingerprint; false when its schema did not come."""


def no_learning(_: Codec, __: bytes) -> bool:
    """Learns nothing: records of unknown schemas are quarantined at once."""
    return False


def learner(bootstrap: str, origins: Sequence[str], name: str) -> Learn:
    """Learns from the `.schemas` topics of these origins. Thread-safe; a codec at a time."""
    in_vain: set[bytes] = set()

    def learn(codec: Codec, fingerprint: bytes) -> bool:
        wait_s = SCHEMA_LOOK_S if fingerprint in in_vain else SCHEMA_WAIT_S
        with closing(Reader(bootstrap, f"schemas-{name}")) as reader:
            reader.assign(_all(origins))
            last = time.monotonic()
            while not codec.knows(fingerprint) and time.monotonic() - last < wait_s:
                for raw in reader.batch(500, 0.5):
                    _teach(codec, raw)
                    last = time.monotonic()
        if not codec.knows(fingerprint) and len(in_vain) < MOST_IN_VAIN:
            in_vain.add(fingerprint)
        return codec.knows(fingerprint)

    return learn


def _all(origins: Sequence[str]) -> dict[tuple[str, int], int]:
    return {(fact_topic(origin, "schemas"), 0): 0 for origin in origins}


def taught(bootstrap: str, origins: Sequence[str]) -> Codec:
    """A codec that knows what has been published so far. Raises: Unavailable."""
    codec = Codec()
    with closing(Reader(bootstrap, "schemas", wait_ms=50)) as reader:
        for batch in reader.to_ends(_all(origins), STILL_S):
            for raw in batch:
                _teach(codec, raw)
    return codec


def _teach(codec: Codec, raw: Raw) -> None:
    try:
        data = codec.decode_fact(raw.value).data
        if isinstance(data, SchemaPublished):
            codec.learn(data.document)
    except ContractError:
        return  # a schema that is none of ours teaches nothing
