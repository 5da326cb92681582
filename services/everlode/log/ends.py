"""Where fact logs end in a cluster: the last fact of each partition, by `seq` and stamp.

An offset says nothing of it: a log that was made again counts anew. Shell.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing

from everlode.adapters.kafka import Raw, Reader
from everlode.avro.codec import Codec
from everlode.errors import ContractError
from everlode.topics.place import End, TopicPartition, placed

READ_S = 120.0
BACK = (4, 64, 4096)
"""So many offsets before the end the last record is looked for; then from the beginning."""


def ends_of(
    bootstrap: str, codec: Codec, places: Collection[TopicPartition], answer_s: float = 15
) -> dict[TopicPartition, End]:
    """The last facts of these partitions in a cluster; (0, 0) where there is none.

    Raises: Unavailable: no answer within `answer_s`.
    """
    with closing(Reader(bootstrap, "ends", wait_ms=50)) as reader:
        return ends_by(reader, codec, places, answer_s)


def ends_by(
    reader: Reader, codec: Codec, places: Collection[TopicPartition], answer_s: float = 15
) -> dict[TopicPartition, End]:
    """As `ends_of`, by a reader that is assigned nothing, and is not when it is done."""
    found: dict[TopicPartition, End] = {}
    bounds = reader.bounds(places, answer_s)
    for back in (*BACK, None):
        left = {
            place: begin if back is None else max(begin, end - back)
            for place, (begin, end) in bounds.items()
            if place not in found and end > begin
        }
        if not left:
            break
        for batch in reader.to_bounds(left, bounds, READ_S):
            for raw in batch:
                end = standing(codec, raw)
                place = (raw.topic, raw.partition)
                if end is not None and end.seq > found.get(place, End()).seq:
                    found[place] = end
    return dict.fromkeys(places, End()) | found


def standing(codec: Codec, raw: Raw) -> End | None:
    """Where a record stands in its partition; None of what is no fact of it."""
    try:
        envelope = placed(codec, raw.topic, raw.key, raw.value).envelope
    except ContractError:
        return None
    return End(envelope.seq, envelope.stamp)
