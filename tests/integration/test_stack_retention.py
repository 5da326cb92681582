"""Doctor names a reader before retention takes from it what it has not read. On real parts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition

from everlode.adapters.kafka import Reader, Record
from everlode.adapters.kafka_admin import admin_client
from everlode.adapters.kafka_topics import alter_topic
from everlode.adapters.kafka_writer import Writer
from everlode.avro.snapshots import encode_snapshot
from everlode.cli.main import run
from everlode.events.snapshots import MARK, SnapshotMark
from everlode.stack.doctor import examine
from everlode.stack.retention import Late
from everlode.state.shape import FOLD_VERSION
from everlode.topics.names import snapshot_topic
from tests.support.world.backed import TOPOLOGY, Backed, story

pytestmark = pytest.mark.timeout(240)
TASKS, MINERS = "eu.1.tasks", "eu.1.miners"
KEPT_MS = 3_600_000
"""Retention: nothing of it is removed while a test runs."""


@pytest.fixture
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backed]:
    with Backed(tmp_path_factory.mktemp("retention")) as region:
        region.write(story(3, 3))
        region.project()
        for topic in (TASKS, MINERS):
            alter_topic(region.bootstrap, topic, {"retention.ms": str(KEPT_MS)})
            remove_all(region, topic)  # a log's times rise: what is old does not follow what is new
        yield region


def remove_all(region: Backed, topic: str) -> None:
    """As retention would, whatever of it was read."""
    client = admin_client(region.bootstrap)  # must live until it has answered
    for future in client.delete_records([TopicPartition(topic, 0, OFFSET_END)]).values():
        future.result()


def write_old(region: Backed, topic: str, age_ms: int) -> None:
    """One record, as if it had been written so long ago."""
    producer = Producer({"bootstrap.servers": region.bootstrap, "acks": "all"})
    then = time.time_ns() // 1_000_000 - age_ms
    producer.produce(topic, b"junk", b"k", partition=0, timestamp=then)
    assert producer.flush(20) == 0


def late(region: Backed) -> tuple[Late, ...]:
    found = examine(TOPOLOGY, region.endpoints)
    assert found.unreachable == {}
    assert found.green is (not found.late and not found.drifts)
    return found.late


def test_stopped_projector_is_named_from_half_of_the_retention_on(
    region: Backed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert late(region) == ()
    write_old(region, TASKS, KEPT_MS * 4 // 10)
    assert late(region) == ()
    write_old(region, MINERS, KEPT_MS * 6 // 10)
    (found,) = late(region)
    assert (found.reader, found.cluster) == ("projector of eu", "eu")
    assert (found.topic, found.partition) == (MINERS, 0)
    assert KEPT_MS * 6 // 10 <= found.lag_ms < KEPT_MS
    assert (found.retention_ms, found.removed) == (KEPT_MS, 0)
    assert "projector of eu" in found.hint
    assert "retention.ms of eu.1.miners" in found.hint
    where = ["--dir", str(region.stack.data_dir)]
    assert run(["stack", "doctor", *where, "--json"]) == 20
    (row,) = json.loads(capsys.readouterr().out)["late"]
    assert row == json.loads(json.dumps(found._asdict() | {"hint": found.hint})) | {
        "lag_ms": row["lag_ms"]
    }
    assert run(["stack", "doctor", *where]) == 20
    shown = " ".join(capsys.readouterr().out.split())
    assert "projector of eu loses records soon of eu.1.miners/0 in eu" in shown
    region.project()
    assert late(region) == ()


def test_what_was_removed_before_it_was_read_is_named_as_lost(region: Backed) -> None:
    for _ in range(3):
        write_old(region, TASKS, 0)
    assert late(region) == ()
    remove_all(region, TASKS)
    (found,) = late(region)
    assert (found.reader, found.topic, found.partition) == ("projector of eu", TASKS, 0)
    assert found.removed >= 2
    assert "everlode recover" in found.hint


def mark(region: Backed, seq: int, next_offset: int) -> None:
    """What the writer of the miners' log writes every few seconds."""
    value = encode_snapshot(SnapshotMark(seq, next_offset, 1, FOLD_VERSION, 0, (), ()))
    writer = Writer(region.bootstrap, "a-writer")
    writer.open()
    writer.write([Record(snapshot_topic("eu.1", "miners"), 0, MARK + b"0", value, [])])


def test_facts_that_no_snapshot_has_are_named_before_they_are_removed(region: Backed) -> None:
    """Nobody has led, or emitted, for long: who starts then would lack them."""
    with closing(Reader(region.bootstrap, "end")) as reader:
        end = reader.ends([(MINERS, 0)])[MINERS, 0]
    mark(region, 1, end)
    assert late(region) == ()
    write_old(region, MINERS, KEPT_MS * 6 // 10)
    region.project()
    (found,) = late(region)
    assert (found.reader, found.cluster) == ("writer of eu.1.miners", "eu")
    assert (found.topic, found.partition, found.removed) == (MINERS, 0, 0)
    assert KEPT_MS * 6 // 10 <= found.lag_ms < KEPT_MS
    assert "takes a snapshot" in found.hint
    mark(region, 2, end + 1)
    assert late(region) == ()
    for _ in range(3):
        write_old(region, MINERS, 0)
    region.project()
    assert late(region) == ()
    remove_all(region, MINERS)
    (lost,) = late(region)
    assert (lost.reader, lost.topic, lost.partition) == ("writer of eu.1.miners", MINERS, 0)
    assert (lost.removed > 0, "does not start" in lost.hint) == (True, True)


def test_group_is_named_by_what_it_has_committed(region: Backed) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": region.bootstrap, "group.id": "audit",
            "enable.auto.commit": False, "log_level": 0,
        }
    )  # fmt: skip
    _, end = consumer.get_watermark_offsets(TopicPartition(TASKS, 0), 10)
    consumer.commit(offsets=[TopicPartition(TASKS, 0, end)], asynchronous=False)
    write_old(region, TASKS, KEPT_MS * 9 // 10)
    region.project()
    (found,) = late(region)
    assert (found.reader, found.topic, found.partition) == ("group audit", TASKS, 0)
    consumer.commit(offsets=[TopicPartition(TASKS, 0, end + 1)], asynchronous=False)
    assert late(region) == ()
    consumer.close()
