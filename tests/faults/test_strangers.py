"""What strangers do to the topics that they may write to holds up nobody else. On real parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

import pytest
from confluent_kafka import Producer

from everlode.adapters.clock import WallClock
from everlode.adapters.kafka_transactions import OpenTransaction, open_transactions
from everlode.adapters.postgres_read import Generation
from everlode.events import commands as c
from everlode.events.heartbeats import MinerBeat
from everlode.log.signals import SignalWriter
from everlode.stack import doctor
from everlode.topics import Topology
from everlode.topics.names import command_topic, dead_letter_topic, fact_topic, reply_topic
from tests.support.processes.flawed_node import FLAWED_BEAT, FLAWED_MICRO
from tests.support.world.region import PARTITIONS, Region, until

pytestmark = pytest.mark.timeout(180)
FLAWED = "tests.support.processes.flawed_node"
COMMANDS, REPLIES = command_topic("eu", "miners"), reply_topic("eu")
BEATS = fact_topic("eu.1", "heartbeats")


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    with Region(tmp_path_factory.mktemp("strangers")) as made:
        yield made


@contextmanager
def left_open(region: Region, *topics: str) -> Iterator[None]:
    """A stranger's transaction, with a record in each partition, that is aborted at the end."""
    stranger = Producer(
        {"bootstrap.servers": region.bootstrap, "transactional.id": "stranger", "log_level": 0}
    )
    stranger.init_transactions(20)
    stranger.begin_transaction()
    for topic in topics:
        for partition in range(PARTITIONS):
            stranger.produce(topic, key="nobody", value=b"not avro", partition=partition)
    assert stranger.flush(20) == 0
    try:
        yield
    finally:
        stranger.abort_transaction(20)


def register(region: Region, name: str) -> None:
    with region.client(name) as client:
        client.register_miner(["inference"], endpoint="e:1", gpus=1)


def places(*topics: str) -> list[tuple[str, int]]:
    return [(topic, partition) for topic in topics for partition in range(PARTITIONS)]


def test_transaction_left_open_on_commands_and_answers_holds_up_no_other_client(
    region: Region,
) -> None:
    node = region.leader("miner-registry", "miners", "eu-mr-open")
    with left_open(region, COMMANDS, REPLIES):
        assert {(t.topic, t.partition) for t in held(region, -1)} == {*places(COMMANDS, REPLIES)}
        register(region, "m-1")  # asked and answered behind the open records
        with region.client("m-2") as client:
            client.register_miner(["inference"], endpoint="e:2", gpus=1)
            assert client.call("eu/m-2", c.DepositStake(amount_micro=1)).outcome == "done"
        # and a node that takes over reads on where the last one was
        heir = region.leader("miner-registry", "miners", "eu-mr-heir")
        register(region, "m-3")
        assert {(t.topic, t.partition) for t in held(region, -1)} == {*places(COMMANDS, REPLIES)}
    until(lambda: held(region, -1) == [], 20, "the transaction is over")
    for one in (node, heir):
        assert one.process.poll() is None
        one.kill()


def held(region: Region, older_s: float) -> list[OpenTransaction]:
    return open_transactions(region.bootstrap, places(COMMANDS, REPLIES), older_s)


def test_doctor_names_a_transaction_that_is_open_for_longer_than_one_of_ours_may_be(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    topology = Topology(regions=("eu",), control_replication=1, control_min_insync=1)
    with left_open(region, COMMANDS):
        assert held(region, doctor.OPEN_S) == []
        monkeypatch.setattr(doctor, "OPEN_S", -1.0)
        found = doctor.examine(topology, region.endpoints)
    named = {(t.cluster, t.topic, t.partition) for t in found.held}
    assert {("eu", *place) for place in places(COMMANDS)} <= named
    assert not found.green


def test_transaction_longer_than_a_mirror_needs_is_refused_by_the_broker(region: Region) -> None:
    greedy = Producer(
        {
            "bootstrap.servers": region.bootstrap, "transactional.id": "greedy",
            "transaction.timeout.ms": 900_000, "log_level": 0,
        }
    )  # fmt: skip
    with pytest.raises(Exception, match=r"(?i)transaction.*timeout"):
        greedy.init_transactions(20)


def noted(region: Region, node_id: str) -> bool:
    """Whether a region's projection has a node's heartbeat."""
    place = region.endpoints.region("eu")
    with closing(Generation.current(place.postgres_conninfo())) as db:
        return bool(db.query("select 1 from {g}.nodes where node_id = %s", (node_id,)))


def test_transaction_left_open_on_heartbeats_hides_no_node_from_coordinator_and_projection(
    region: Region,
) -> None:
    projector = region.process("projector", "eu-pj-strangers")
    coordinator = region.coordinator("eu-co-strangers")
    coordinator.ready()
    projector.ready()
    until(lambda: "coordinator/eu" in region.follower.state.scopes, 30, "it leads")
    with left_open(region, BEATS):
        scope = "miner-registry/eu"
        epoch = region.follower.state.epoch(scope)  # before: it may be chosen as soon as it beats
        node = region.node("miner-registry", "eu-mr-beats")
        node.ready()
        until(  # the coordinator saw it beat: it makes it primary
            lambda: region.follower.state.epoch(scope) > epoch, 40, "it is chosen"
        )
        until(lambda: noted(region, "eu-mr-beats"), 40, "the projection has its beat")
    for one in (projector, coordinator, node):
        assert one.process.poll() is None
        one.kill()


def test_command_whose_decision_fails_is_answered_and_kept_and_the_primary_goes_on(
    region: Region,
) -> None:
    node = region.leader("miner-registry", "miners", "eu-mr-flawed", module=FLAWED)
    register(region, "m-flawed")
    letters = dead_letter_topic("primary", COMMANDS)
    before = len(region.records(letters, 1))
    with region.client("m-flawed") as client:
        flawed = c.DepositStake(amount_micro=FLAWED_MICRO)
        answer = client.send("eu/m-flawed", flawed, command_id="the-id").result(30)
        assert (answer.outcome, answer.code, answer.command_id) == ("refused", "internal", "the-id")
        assert client.call("eu/m-flawed", c.DepositStake(amount_micro=1)).outcome == "done"
    until(lambda: len(region.records(letters, 1)) == before + 1, 20, "a letter")
    letter = dict(region.records(letters, 1)[-1].headers)
    assert letter["dlt-code"] == b"internal"
    assert b"KeyError" in letter["dlt-message"]
    node.await_entry("Undecided", text="the-id")
    assert node.process.poll() is None
    node.kill()


def has(region: Region, topic: str, letters: int) -> bool:
    return len(region.records(topic, 1)) == letters


def test_heartbeat_that_cannot_be_observed_is_kept_and_coordinator_and_detector_go_on(
    region: Region,
) -> None:
    readers = [
        region.process(noun, f"eu-{noun}-flawed", module=FLAWED)
        for noun in ("coordinator", "detector")
    ]
    for reader in readers:
        reader.ready()
    coordinator, scope, coordinator_id = readers[0], "coordinator/eu", "eu-coordinator-flawed"

    def leads() -> bool:
        led = region.follower.state.scopes.get(scope)
        return led is not None and led.primary == coordinator_id and led.renewed_at >= 0

    until(leads, 60, "it leads, and keeps what it cannot take")
    topics = [dead_letter_topic(who, BEATS) for who in ("coordinator", "detector")]
    before = {topic: len(region.records(topic, 1)) for topic in topics}
    beats = SignalWriter(region.bootstrap, "eu.1", WallClock())
    lawful = MinerBeat(running=(), work_done=1, interval_ms=15_000)
    for partition in range(PARTITIONS):
        beats.signal(lawful, topic="heartbeats", key=FLAWED_BEAT, partition=partition)
    beats.close()
    for topic in topics:
        wanted = before[topic] + PARTITIONS
        until(partial(has, region, topic, wanted), 60, f"letters on {topic}")
        for raw in region.records(topic, 1)[before[topic] :]:
            letter = dict(raw.headers)
            assert (raw.key, letter["dlt-code"]) == (FLAWED_BEAT.encode(), b"internal")
            assert letter["dlt-topic"] == BEATS.encode()
            assert b"MinerBeat cannot be observed: KeyError" in letter["dlt-message"]
    coordinator.await_entry("RecordLeftOut", topic=BEATS)
    served = "rewards/eu"
    node = region.node("reward-distributor", "eu-rd-flawed")
    until(lambda: served in region.follower.state.scopes, 40, "a beat behind it counts")
    assert [reader.process.poll() for reader in readers] == [None, None]
    for one in (*readers, node):
        one.kill()
