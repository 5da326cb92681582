"""Transactions that were left open: what hides behind them from who reads committed records.

Kafka's client for Python has no question for transactions; but where the last offset that is stable
lies below the partition's end, one is open, and its first record tells since when. Shell.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from contextlib import closing
from typing import NamedTuple

from everlode.adapters.kafka import Raw, Reader
from everlode.topics.place import TopicPartition

LOOK_S = 5.0


class OpenTransaction(NamedTuple):
    """The oldest open transaction of one partition."""

    topic: str
    partition: int
    offset: int
    """Of its first record: readers of committed records have come to here."""
    age_s: int
    cluster: str = ""
    """Region, or control."""


def open_transactions(
    bootstrap: str, partitions: Iterable[TopicPartition], older_s: float
) -> list[OpenTransaction]:
    """Those of these partitions that began longer ago. Raises: Unavailable."""
    asked = list(partitions)
    with (
        closing(Reader(bootstrap, "doctor")) as committed,
        closing(Reader(bootstrap, "doctor", uncommitted=True)) as all_of_it,
    ):
        ends = all_of_it.ends(asked)  # first: what is committed meanwhile is no difference
        stable = committed.ends(asked)
        held = {place: stable[place] for place in asked if stable[place] < ends[place]}
        first = _first(all_of_it, held)
    now_ms = time.time_ns() // 1_000_000
    found = (
        OpenTransaction(raw.topic, raw.partition, raw.offset, (now_ms - at_ms) // 1000)
        for raw in first
        if (at_ms := raw.written_ms) is not None
    )
    return sorted(one for one in found if one.age_s > older_s)


def _first(reader: Reader, held: dict[TopicPartition, int]) -> Collection[Raw]:
    """The first record of each from its offset on, as far as they can be had."""
    found: dict[TopicPartition, Raw] = {}
    reader.assign(held)
    deadline = time.monotonic() + LOOK_S
    while len(found) < len(held) and time.monotonic() < deadline:
        for raw in reader.batch(1000, 0.2, 0.0):
            found.setdefault((raw.topic, raw.partition), raw)
    return found.values()
