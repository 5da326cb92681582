"""A whole native stack, on real parts: topics, mirrors, doctor."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # it is a re-export
from minio import Minio

from everlode.adapters.kafka import Reader
from everlode.adapters.kafka_admin import admin_client, diff_topics
from everlode.adapters.kafka_topics import alter_topic, ensure_topics
from everlode.adapters.mirror_lag import flow_lag
from everlode.adapters.mirror_status import flow_state
from everlode.cli.main import run
from everlode.errors import ConfigError, Unavailable
from everlode.stack import Endpoints, NativeStack
from everlode.stack.doctor import examine
from everlode.topics import Topology, catalogue, mirrored_topics
from tests.support.world.region import until

pytestmark = pytest.mark.timeout(240)
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeStack]:
    """A stack of our own: these tests write junk, change topics and kill."""
    with NativeStack(data_dir=tmp_path_factory.mktemp("whole")) as stack:
        stack.up()
        yield stack
        stack.down(at_once=True)


def endpoints_of(stack: NativeStack) -> Endpoints:
    assert stack.endpoints is not None
    return stack.endpoints


def produce(bootstrap: str, topic: str, key: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    producer.produce(topic, value, key)
    assert producer.flush(20) == 0


def values_until(bootstrap: str, topic: str, wanted: bytes, within_s: float = 30.0) -> list[bytes]:
    """Values of a topic from its start until `wanted` came, or the time is over."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"test-{uuid.uuid4()}",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    found: list[bytes] = []
    deadline = time.monotonic() + within_s
    try:
        consumer.subscribe([topic])
        while wanted not in found and time.monotonic() < deadline:
            for message in consumer.consume(100, 0.5):
                value = message.value()
                if message.error() is None and value is not None:
                    found.append(value)
    finally:
        consumer.close()
    return found


def test_every_topic_of_every_cluster_is_as_in_the_catalogue(whole: NativeStack) -> None:
    found = examine(whole.topology, endpoints_of(whole))
    assert found.topics_checked == len(catalogue(whole.topology))
    assert found.drifts == ()
    assert found.unreachable == {}


def test_every_flow_runs_and_doctor_is_green(whole: NativeStack) -> None:
    regions, endpoints = whole.topology.regions, endpoints_of(whole)
    all_flows = {(a, b) for a in regions for b in regions if a != b}

    def seen() -> tuple[set[tuple[str, str]], bool]:
        found = examine(whole.topology, endpoints)
        return {(flow.source, flow.target) for flow in found.flows if flow.runs}, found.green

    # it says so of this moment: on a loaded machine a mirror that moves its tasks runs none
    until(lambda: seen() == (all_flows, True), 60, "every flow runs, and the doctor is content")


def test_record_of_one_region_is_read_once_in_the_others_under_its_name(
    whole: NativeStack,
) -> None:
    regions = endpoints_of(whole).regions
    marker = uuid.uuid4().bytes
    produce(regions["eu"].kafka_bootstrap, "eu.1.receipts", "k", marker)
    for region in ("us", "ap"):
        found = values_until(regions[region].kafka_bootstrap, "eu.1.receipts", marker)
        assert found.count(marker) == 1, region


def test_lag_is_counted_by_partition_while_a_mirror_is_down_and_goes_to_zero(
    whole: NativeStack,
) -> None:
    endpoints = endpoints_of(whole)
    bootstraps = {name: region.kafka_bootstrap for name, region in endpoints.regions.items()}
    topics = mirrored_topics(whole.topology, "eu")

    def lag() -> dict[tuple[str, int], int]:
        found = flow_lag(bootstraps, "eu", "us", topics)
        assert {row.topic for row in found} == set(topics)
        return {(row.topic, row.partition): row.records for row in found if row.records}

    def wait_for_none() -> None:
        deadline = time.monotonic() + 60
        while lag() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert lag() == {}

    wait_for_none()
    whole.kill("us/mirror")
    producer = Producer({"bootstrap.servers": bootstraps["eu"], "transactional.id": "lag-test"})
    producer.init_transactions(20)
    for commit in (True, False):
        producer.begin_transaction()
        for _ in range(3):
            producer.produce("eu.1.heartbeats", b"x", partition=1)
        producer.flush(20)
        if commit:
            producer.commit_transaction(20)
        else:
            producer.abort_transaction(20)
    assert lag() == {("eu.1.heartbeats", 1): 3}
    whole.restart("us/mirror")
    wait_for_none()


def test_topic_that_is_not_mirrored_stays_at_home(whole: NativeStack) -> None:
    regions = endpoints_of(whole).regions
    first, second = uuid.uuid4().bytes, uuid.uuid4().bytes
    produce(regions["eu"].kafka_bootstrap, "state.g1.fraud", "k", first)
    produce(regions["eu"].kafka_bootstrap, "eu.1.receipts", "k", second)
    assert second in values_until(regions["us"].kafka_bootstrap, "eu.1.receipts", second)
    assert first not in values_until(regions["us"].kafka_bootstrap, "state.g1.fraud", first, 1.0)


DRIFTS = {
    "retention.ms": (str(7 * DAY_MS), str(DAY_MS)),
    "cleanup.policy": ("delete", "compact"),
    "min.insync.replicas": ("1", "2"),
}
"""Setting → as it should be, as somebody has made it."""


def test_drifts_made_by_hand_are_named_and_mended(whole: NativeStack) -> None:
    endpoints = endpoints_of(whole)
    bootstrap = endpoints.regions["us"].kafka_bootstrap
    specs = [spec for spec in catalogue(whole.topology) if spec.cluster == "us"]
    doctor = partial(examine, whole.topology, endpoints)
    alter_topic(bootstrap, "eu.1.health", {name: wrong for name, (_, wrong) in DRIFTS.items()})
    try:
        until(lambda: len(doctor().drifts) == len(DRIFTS), 20, "the broker has them")
        found = doctor()
        assert {(d.cluster, d.topic) for d in found.drifts} == {("us", "eu.1.health")}
        assert {d.setting: (d.expected, d.found) for d in found.drifts} == DRIFTS
        assert not found.green
        said = rf"eu\.1\.health: {re.escape(min(DRIFTS))} .* \({len(DRIFTS)} differences in all\)"
        with pytest.raises(ConfigError, match=said):
            ensure_topics(bootstrap, specs)
    finally:
        alter_topic(bootstrap, "eu.1.health", {name: right for name, (right, _) in DRIFTS.items()})
    until(lambda: doctor().drifts == (), 20, "it is as it was")


def test_other_catalogue_finds_partitions_and_missing_topics(whole: NativeStack) -> None:
    bootstrap = endpoints_of(whole).regions["eu"].kafka_bootstrap
    wider = Topology(partitions=3, incarnations={"eu": 2})
    specs = [spec for spec in catalogue(wider) if spec.cluster == "eu"]
    drifts = {(drift.topic, drift.setting): drift for drift in diff_topics(bootstrap, specs)}
    assert drifts["us.1.tasks", "partitions"].found == "2"
    assert drifts["eu.2.tasks", "topic"].found == "(missing)"
    assert ("us.1.health", "partitions") not in drifts


def test_status_is_ready_while_all_parts_answer_and_names_those_that_stand_still(
    whole: NativeStack, capsys: pytest.CaptureFixture[str]
) -> None:
    def status() -> tuple[int, str, dict[str, str]]:
        capsys.readouterr()
        code = run(["stack", "status", "--dir", str(whole.data_dir), "--json"])
        shown = json.loads(capsys.readouterr().out)
        assert {p["name"] for p in shown.get("processes", ())} == set(whole.layout.names), shown
        assert {p["state"] for p in shown["processes"]} <= {"running", "silent"}
        found = {p["name"]: p["why"] for p in shown["processes"] if p["state"] == "silent"}
        seen.append((code, shown["state"], found))
        return seen[-1]

    def await_ready() -> None:
        """A mirror that has just started moves its tasks once more."""
        try:
            until(lambda: status() == (0, "ready", {}), 60, "all parts answer")
        except AssertionError:
            raise AssertionError(seen[-1]) from None

    seen: list[tuple[int, str, dict[str, str]]] = []
    await_ready()
    still = ("eu/postgres", "control/2", "us/kafka", "ap/mirror", "s3")
    for name in still:
        whole.pause(name)  # each keeps its port open, and takes connections
    try:
        code, state, silent = status()
    finally:
        for name in still:
            whole.resume(name)
    assert (code, state) == (20, "degraded")
    # a mirror is asked of its own cluster, so that of us is not known either
    assert set(silent) == {*still, "us/mirror"}
    assert all(silent.values())
    await_ready()


def test_mirror_killed_is_seen_and_comes_back(whole: NativeStack) -> None:
    regions = endpoints_of(whole).regions
    whole.kill("ap/mirror")
    statuses = {status.name: status for status in whole.processes()}
    assert statuses["ap/mirror"].exit_status == -9
    marker = uuid.uuid4().bytes
    produce(regions["us"].kafka_bootstrap, "us.1.receipts", "k", marker)
    whole.restart("ap/mirror")
    found = values_until(regions["ap"].kafka_bootstrap, "us.1.receipts", marker, 60.0)
    assert found.count(marker) == 1
    assert flow_state(regions["ap"].kafka_bootstrap, "us", "ap").connector == "RUNNING"


def test_mirror_without_a_source_no_longer_copies_from_it(whole: NativeStack) -> None:
    regions = endpoints_of(whole).regions
    target = regions["ap"].kafka_bootstrap
    whole.set_mirror_sources("ap", ("us",))
    closed, other = uuid.uuid4().bytes, uuid.uuid4().bytes
    produce(regions["eu"].kafka_bootstrap, "eu.1.receipts", "k", closed)
    produce(regions["us"].kafka_bootstrap, "us.1.receipts", "k", other)
    assert other in values_until(target, "us.1.receipts", other, 60.0)
    assert closed not in values_until(target, "eu.1.receipts", closed, 2.0)
    found = examine(whole.topology, endpoints_of(whole))
    assert not found.green
    # what it said last may be that it runs; but it copies nothing
    assert [(f.source, f.target) for f in found.flows if not f.runs] == [("eu", "ap")]
    whole.set_mirror_sources("ap", ("eu", "us"))
    assert closed in values_until(target, "eu.1.receipts", closed, 60.0)


def test_stopped_mirror_is_named_before_retention_takes_what_it_has_not_copied(
    whole: NativeStack,
) -> None:
    # nobody else writes there: retention goes by the youngest record of a segment
    bootstrap, topic = endpoints_of(whole).regions["eu"].kafka_bootstrap, "eu.1.rewards"
    whole.stop("us/mirror")
    alter_topic(bootstrap, topic, {"retention.ms": str(DAY_MS)})
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    written = time.time_ns() // 1_000_000 - DAY_MS * 6 // 10
    producer.produce(topic, uuid.uuid4().bytes, "k", timestamp=written)
    assert producer.flush(20) == 0

    def named() -> set[tuple[str, str, str]]:
        return {(x.cluster, x.reader, x.topic) for x in examine(whole.topology, at).late}

    at = endpoints_of(whole)
    # brokers hear of a new setting by the metadata log
    until(lambda: ("eu", "mirror eu → us", topic) in named(), 60, "it is named")
    whole.restart("us/mirror")
    until(lambda: ("eu", "mirror eu → us", topic) not in named(), 60, "the mirror has copied it")
    spec = next(s for s in catalogue(whole.topology) if s.name == topic)
    alter_topic(bootstrap, topic, {"retention.ms": str(spec.retention_ms)})


def test_control_cluster_takes_writes_after_its_leader_was_killed(
    whole: NativeStack,
) -> None:
    bootstrap = endpoints_of(whole).control_bootstrap
    assert bootstrap is not None
    client = admin_client(bootstrap)
    leader = client.list_topics("control", timeout=10).topics["control"].partitions[0].leader
    whole.kill(f"control/{leader}")
    try:
        producer = Producer(
            {"bootstrap.servers": bootstrap, "acks": "all", "message.timeout.ms": 60_000}
        )
        errors: list[object] = []
        producer.produce(
            "control", b"", key="test", on_delivery=lambda error, _: errors.append(error)
        )
        assert producer.flush(60) == 0
        assert errors == [None]

        def moved() -> bool:
            topic = client.list_topics("control", timeout=10).topics["control"]
            return topic.partitions[0].leader != leader

        until(moved, 20, "the survivor that is asked has heard of it")
    finally:
        whole.restart(f"control/{leader}")


def test_object_store_has_both_buckets_and_states_its_choice(whole: NativeStack) -> None:
    s3 = endpoints_of(whole).s3
    assert s3 is not None
    access, secret = s3.keys()
    client = Minio(s3.endpoint, access_key=access, secret_key=secret, secure=False)
    assert {bucket.name for bucket in client.list_buckets()} >= set(s3.buckets)
    assert s3.server in ("minio", "rclone")
    assert s3.reason


def test_memory_is_counted_by_kind(whole: NativeStack) -> None:
    resident = whole.resident_bytes()
    assert set(resident) == {"kafka", "control", "mirror", "postgres", "s3"}
    assert all(resident.values())


def test_reader_hears_of_a_topic_that_had_no_leader_when_it_first_asked(
    whole: NativeStack,
) -> None:
    bootstrap = endpoints_of(whole).control_bootstrap
    assert bootstrap is not None
    client = admin_client(bootstrap)

    def leader() -> int:
        partitions = client.list_topics("alone", timeout=10).topics["alone"].partitions
        return partitions[0].leader if partitions else -2

    broker = client.list_topics("control", timeout=10).topics["control"].partitions[0].leader
    made = client.create_topics([NewTopic("alone", 1, replica_assignment=[[broker]])])
    made["alone"].result(20)
    until(lambda: leader() == broker, 20, "the topic is there")
    whole.kill(f"control/{broker}")
    with closing(Reader(bootstrap, "test-alone")) as reader:
        try:
            until(lambda: leader() == -1, 30, "the topic has no leader")
            with pytest.raises(Unavailable):
                reader.ends([("alone", 0)], 1)
        finally:
            whole.restart(f"control/{broker}")
        until(lambda: leader() == broker, 30, "the topic has its leader again")
        assert reader.ends([("alone", 0)]) == {("alone", 0): 0}
    client.delete_topics(["alone"])["alone"].result(20)
