"""A region's projection that holds many tasks, as if a projector had folded their facts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

from everlode.adapters.kafka import Record
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres_next import NextGeneration
from everlode.avro.codec import encode_state
from everlode.events.stamp import stamp_at
from everlode.projection.fold import Known, Prefix
from everlode.state.dispatch import evolve_fact
from everlode.topics.names import fact_topic, state_topic
from tests.support.world.backed import Backed
from tests.support.world.projecting import fact

AT_ONCE = 5000


def states(first: int, last: int, partition: int) -> Iterator[tuple[str, Known]]:
    """Tasks `first` to `last`, without the last."""
    template = evolve_fact(None, fact("tasks", "template", 1, 1), partition)
    assert template is not None
    began = stamp_at(time.time_ns() // 1_000_000)
    for number in range(first, last):
        key = f"task-{partition}-{number:010}"
        yield key, Known(template._replace(key=key, seq=number + 1, stamp=began + number), 1, "")


def fill(region: Backed, first: int, last: int, partition: int = 0) -> None:
    """Rows, state records and a position of the first generation, in one partition."""
    topic = state_topic(1, "tasks")
    writer = Writer(region.bootstrap, f"projector.eu.g1.{partition}")
    writer.open()
    with closing(NextGeneration(region.conninfo, 1, "bench")) as db:
        db.create()
        found = list[tuple[str, Known]]()
        newest = 0
        for item in states(first, last, partition):
            found.append(item)
            if len(found) == AT_ONCE or item[1].state.seq == last:  # type: ignore[union-attr]
                db.load("tasks", found)
                records = [
                    Record(topic, partition, key, encode_state(known.state), [])
                    for key, known in found
                    if known.state is not None
                ]
                writer.write(records)
                newest = max(known.state.stamp for _, known in found if known.state is not None)
                found.clear()
        db.place(partition, {fact_topic("eu.1", "tasks"): Prefix(last, newest, 0)})
    writer.abandon()
