"""The last beats of a region's nodes, from its log: also when no projection is there. Shell."""

from __future__ import annotations

import time
from typing import NamedTuple

from everlode.adapters.kafka import Reader
from everlode.avro.codec import Codec
from everlode.errors import ContractError
from everlode.events.heartbeats import NodeBeat
from everlode.events.stamp import millis_of
from everlode.failover.heartbeats import FRESH_S, said
from everlode.failover.planner import Beating
from everlode.topics.names import fact_topic

RECENT = 3_000
"""Heartbeats of a partition that are looked at."""
READ_S = 15.0


class LastBeat(NamedTuple):
    """A node's last beat, and for how long it has been silent since."""

    beat: NodeBeat
    silent_s: float


def last_beats(reader: Reader, origin: str, partitions: int) -> dict[str, LastBeat]:
    """Node → its last beat, of those among the recent ones. Raises: Unavailable."""
    topic = fact_topic(origin, "heartbeats")
    ends = reader.ends([(topic, p) for p in range(partitions)])
    reader.assign({at: max(0, end - RECENT) for at, end in ends.items()})
    codec, found = Codec(), dict[str, tuple[NodeBeat, int]]()
    for batch in reader.until(ends, READ_S):
        for raw in batch:
            try:
                fact = codec.decode_fact(raw.value)
            except ContractError:
                continue
            if isinstance(fact.data, NodeBeat):
                found[fact.envelope.aggregate_id] = fact.data, millis_of(fact.envelope.stamp)
    now_ms = time.time_ns() // 1_000_000
    return {n: LastBeat(beat, max(0, now_ms - at) / 1000) for n, (beat, at) in found.items()}


def beating(reader: Reader, origin: str, partitions: int) -> dict[str, Beating]:
    """What a coordinator goes by: node → what it said last, of those that beat now.

    Raises: Unavailable.
    """
    return {
        node: said(last.beat)
        for node, last in last_beats(reader, origin, partitions).items()
        if last.silent_s < FRESH_S
    }
