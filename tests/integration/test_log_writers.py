"""Where the writer of each log begins, as `stack doctor` takes it from snapshots. On a mock broker.

What it names of it on real parts: test_stack_retention.py.
"""

from __future__ import annotations

from confluent_kafka import Producer

from everlode.avro.snapshots import encode_snapshot
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.snapshots import ENTRY, MARK, ReadPosition, SnapshotEntry, SnapshotMark
from everlode.settings.endpoints import RegionEndpoints
from everlode.snapshots.read import MARK_BACK
from everlode.stack.retention import writers_of
from everlode.state.shape import FOLD_VERSION
from everlode.topics.names import snapshot_topic
from tests.support.facts.poison import mock_broker

READ = ReadPosition("eu.commands.miners", 0, 7)


def mark(partition: int, next_offset: int) -> tuple[bytes, bytes]:
    reads = (READ,) if partition == 0 else ()
    value = SnapshotMark(1, next_offset, 1, FOLD_VERSION, 0, (), reads)
    return MARK + b"%d" % partition, encode_snapshot(value)


def test_writer_begins_at_its_own_mark_whatever_its_group_and_however_far_back_it_stands() -> None:
    entry = encode_snapshot(SnapshotEntry("miners", "m", 1, "e", None))
    with mock_broker() as broker:
        producer = Producer({"bootstrap.servers": broker})
        for component in FACT_COMPONENTS:
            for partition in (0, 1):
                producer.produce(
                    snapshot_topic("eu.1", component), entry, ENTRY + b"m", partition=partition
                )
        miners = snapshot_topic("eu.1", "miners")
        for partition, next_offset in ((0, 3), (1, 5), (0, 4)):
            key, value = mark(partition, next_offset)
            producer.produce(miners, value, key, partition=partition)
        tasks = snapshot_topic("eu.1", "tasks")
        key, value = mark(1, 9)
        producer.produce(tasks, value, key, partition=1)
        for _ in range(MARK_BACK[-1]):
            producer.produce(tasks, entry, ENTRY + b"m", partition=1)
        assert producer.flush(20) == 0
        place = RegionEndpoints.model_construct(kafka_bootstrap=broker, origin="eu.1")
        known = writers_of("eu", place, 2, ())
        assert known == {
            "writer of eu.1.tasks": {("eu.1.tasks", 1): 9},
            "writer of eu.1.miners": {("eu.1.miners", 0): 4, ("eu.1.miners", 1): 5},
            "writer of eu.1.validations": {},
            "writer of eu.1.rewards": {},
            "group primary.miners.eu": {(READ.topic, 0): 7},
        }
        beside = writers_of("eu", place, 2, {"group primary.miners.eu"})
        assert beside.keys() == known.keys() - {"group primary.miners.eu"}
