"""Facts of another region's log, out of a cluster's copy of it. Shell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing

from everlode.adapters.kafka import Reader
from everlode.avro.codec import Codec
from everlode.errors import ContractError
from everlode.log.facts import LoggedFact
from everlode.topics.place import TopicPartition, placed

STILL_S = 60.0


def copied(
    bootstrap: str,
    group: str,
    last: Mapping[TopicPartition, int],
    upto: Mapping[TopicPartition, int],
) -> Iterator[tuple[TopicPartition, LoggedFact]]:
    """Facts of these places behind their `last` `seq`, up to `upto`; each once, by rising `seq`.

    What is no fact is passed over, every fold quarantines it, and so is what the mirror and a
    leveller have both brought. Ends once all have come, or where the copy ends. Whoever needs all
    of them looks whether each follows the one before. Raises: Unavailable.
    """
    codec, now = Codec(), {at: seq for at, seq in last.items() if seq < upto[at]}
    with closing(Reader(bootstrap, group, wait_ms=50)) as reader:
        starts = reader.beginnings(now) if now else {}
        for batch in reader.to_ends(starts, STILL_S) if starts else ():
            for raw in batch:
                at = raw.topic, raw.partition
                try:
                    fact = placed(codec, raw.topic, raw.key, raw.value)
                except ContractError:
                    continue
                if now[at] < fact.envelope.seq <= upto[at]:
                    now[at] = fact.envelope.seq
                    yield at, LoggedFact(fact, raw.partition, raw.offset)
            if all(seq == upto[at] for at, seq in now.items()):
                return
