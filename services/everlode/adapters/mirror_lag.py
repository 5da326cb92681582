"""How far each mirror flow is behind, by topic and partition.

What the target has is MirrorMaker's own source offset (`mm2-offsets.<source>.internal` on the
target), written in the transaction of the copied records, so it is never ahead of them. Its layout
is no public contract: tested against a running MirrorMaker. Shell: confluent_kafka's consumer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaException, TopicPartition

from everlode.adapters.mirror_status import READ_S, read_all, reader, to_end
from everlode.errors import ContractError, Unavailable

_COUNTED = 1000
"""Above so many offsets the difference of offsets is given; below it, records are counted."""


class PartitionLag(NamedTuple):
    """One partition of one flow."""

    source: str
    target: str
    topic: str
    partition: int
    next_offset: int
    """Next offset of the source that the target does not have yet."""
    end_offset: int
    """Next offset that the source will give; offsets are valid at the source only."""
    records: int
    """Records that the target does not have."""
    exact: bool
    """False: `records` is the difference of offsets, transaction markers included."""


def stored_offsets(bootstrap: str, source: str) -> dict[tuple[str, int], int]:
    """(topic, partition) → offset at `source` of the last record that this target has.

    `bootstrap`: the target's. Raises: Unavailable; ContractError: a record does not fit.
    """
    topic = f"mm2-offsets.{source}.internal"
    stored: dict[tuple[str, int], int] = {}
    for key, value in read_all(bootstrap, topic).items():
        if value is None:
            continue
        try:
            connector, copied = json.loads(key)
            if connector == "MirrorSourceConnector":
                offset = json.loads(value)["offset"]
                stored[str(copied["topic"]), int(copied["partition"])] = int(offset)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as exc:
            raise ContractError(f"{topic}: {key}: {exc!r}") from exc
    return stored


def flow_lag(
    bootstraps: Mapping[str, str], source: str, target: str, topics: Sequence[str]
) -> list[PartitionLag]:
    """Lag of what `target` copies from `source`, by topic and partition.

    `bootstraps`: region → host:port. Raises: Unavailable; ContractError.
    """
    stored = stored_offsets(bootstraps[target], source)
    consumer = reader(bootstraps[source])
    try:
        known = consumer.list_topics(timeout=READ_S).topics
        starts = {
            (topic, partition): stored.get((topic, partition), -1) + 1
            for topic in topics
            if topic in known
            for partition in known[topic].partitions
        }
        ends = {at: consumer.get_watermark_offsets(TopicPartition(*at), READ_S)[1] for at in starts}
        near = {at: start for at, start in starts.items() if 0 < ends[at] - start <= _COUNTED}
        counted = Counter(
            (str(m.topic()), int(m.partition() or 0))
            for m in to_end(consumer, near, bootstraps[source])
        )
    except KafkaException as exc:
        raise Unavailable(f"{bootstraps[source]}: {exc.args[0].str()}") from exc
    finally:
        consumer.close()
    return [
        _lag(source, target, at, (starts[at], ends[at]), counted if at in near else None)
        for at in sorted(starts)
    ]


def _lag(
    source: str,
    target: str,
    at: tuple[str, int],
    offsets: tuple[int, int],
    counted: Mapping[tuple[str, int], int] | None,
) -> PartitionLag:
    distance = max(0, offsets[1] - offsets[0])
    exact = counted is not None or distance == 0
    records = distance if counted is None else counted.get(at, 0)
    return PartitionLag(source, target, *at, *offsets, records, exact)
