"""The detection agent: Faust from heartbeats to verdicts, and a second one after it is killed.

On a real broker; the agent runs in a process of its own, which is killed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer

from everlode.adapters.kafka_topics import ensure_topics
from everlode.avro.codec import Codec, encode_fact
from everlode.events.barriers import Barrier
from everlode.events.base import Envelope, Event, Fact
from everlode.events.health import DetectorStarted, NodeLost, NodeSuspected
from everlode.events.heartbeats import NodeBeat, ProbeAnswered
from everlode.stack import NativeStack
from everlode.topics import Topology, catalogue
from tests.support.facts.poison import BYTES, KEYS, spoil
from tests.support.facts.whole_topic import records

pytestmark = pytest.mark.timeout(110)
BEATS, HEALTH, DEAD = "detect.1.heartbeats", "detect.1.health", "dlt.detector.detect.1.heartbeats"
POISON = {**BYTES, **KEYS}
AGENT = """
import sys
from everlode.agents.app import run_app
from everlode.agents.detection import DetectionAgent
sys.exit(run_app(DetectionAgent("detect.1", sys.argv[1], "det", "detector.test").app))
"""


@pytest.fixture(scope="module")
def broker(everlode_small_stack: NativeStack) -> str:
    """A broker with the topics of an origin that is used here only."""
    endpoints = everlode_small_stack.endpoints
    assert endpoints is not None
    bootstrap = endpoints.regions["eu"].kafka_bootstrap
    topology = Topology(regions=("detect",), control_replication=1, control_min_insync=1)
    wanted = [spec for spec in catalogue(topology) if spec.name in (BEATS, HEALTH, DEAD)]
    assert ensure_topics(bootstrap, wanted)
    return bootstrap


def head(key: str, second: float) -> Envelope:
    return Envelope(
        event_id=f"{key}{second}", aggregate_id=key, version=0, origin="detect.1", scope="",
        epoch=0, seq=1, stamp=int(1_800_000_000_000 + second * 1000) << 16,
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC), correlation_id="c",
    )  # fmt: skip


def beat(node: str) -> NodeBeat:
    return NodeBeat.model_validate(
        {
            "component": "task-manager", "kind": "", "role": "secondary",
            "held_epoch": 0, "endpoint": f"{node}:1", "status": "healthy",
            "load_ppm": 0, "current_tasks": 0, "max_concurrent": 1, "work_done": 0,
            "queue_size": 0, "specialties": (), "interval_ms": 1000,
        }
    )  # fmt: skip


class Partition:
    """Writes records into partition 1; their seconds are stamps, not time that passes."""

    def __init__(self, broker: str) -> None:
        self._producer = Producer({"bootstrap.servers": broker, "log_level": 0})

    def raw(self, key: bytes | None, value: bytes | None) -> None:
        self._producer.produce(BEATS, value, key, partition=1)

    def say(self, key: str, second: float, data: Event) -> None:
        envelope = head(key, second)
        self.raw(key.encode(), encode_fact(envelope, data))

    def poison(self, second: float) -> list[tuple[bytes | None, bytes | None]]:
        """A beat of a, spoiled in every way, and another topic's event."""
        envelope = head("a", second)
        good = encode_fact(envelope, beat("a"))
        stray = NodeSuspected(
            component="task-manager", rule="phi", silence_ms=1, phi=1.0,
            endpoint="a:1", actionable=True, evidence=(),
        )  # fmt: skip
        bad = [spoil(damage, "a", good) for damage in POISON]
        bad.append((b"a", encode_fact(envelope, stray)))
        for pair in bad:
            self.raw(*pair)
        return bad

    def seconds(self, first: int, last: int, nodes: str) -> None:
        """A barrier and a beat of each node in every second."""
        for second in range(first, last):
            self.say("co", second, Barrier(writer_id="co"))
            for node in nodes:
                self.say(node, second + 0.5, beat(node))

    def refused(self, node: str, second: float) -> None:
        answer = ProbeAnswered(endpoint=f"{node}:1", answer="refused", elapsed_ms=1)
        self.say(node, second, answer)

    def flush(self) -> None:
        assert self._producer.flush(10) == 0


def verdicts(broker: str) -> list[Fact]:
    return [Codec().decode_fact(raw.value) for raw in records(broker, HEALTH, 1)]


def lost_of(fact: Fact) -> str:
    """The node that a verdict calls lost; empty of another verdict."""
    return fact.envelope.aggregate_id if isinstance(fact.data, NodeLost) else ""


def until(broker: str, kind: type[Event], count: int) -> list[Fact]:
    end = time.monotonic() + 40
    while True:
        found = verdicts(broker)
        if sum(isinstance(f.data, kind) for f in found) >= count:
            return found
        assert time.monotonic() < end, [f.data for f in found]
        time.sleep(0.2)


def test_agent_publishes_verdicts_and_its_successor_repeats_them_with_the_same_ids(
    broker: str,
) -> None:
    partition = Partition(broker)
    partition.seconds(0, 10, "abc")
    poison = partition.poison(9.9)
    partition.seconds(10, 14, "bc")
    partition.refused("a", 13.9)
    partition.flush()
    command = [sys.executable, "-c", AGENT, broker]
    first = subprocess.Popen(command, stderr=subprocess.PIPE)
    second = None
    try:
        one = until(broker, NodeLost, 1)
        assert [type(f.data) for f in one] == [DetectorStarted, NodeSuspected, NodeLost]
        dead = records(broker, DEAD, 1)
        assert [raw.value for raw in dead] == [value for _, value in poison]
        letters = [dict(raw.headers) for raw in dead]
        codes = [*POISON.values(), "wrong_topic"]
        assert [letter["dlt-code"].decode() for letter in letters] == codes
        for letter in letters:
            assert (letter["dlt-topic"], letter["dlt-partition"]) == (BEATS.encode(), b"1")
            assert letter["dlt-consumer"] == b"detector"
        time.sleep(2)  # its offsets are committed each second
        first.kill()
        first.wait(10)
        partition.seconds(14, 15, "bc")  # b falls silent while no detector runs
        partition.seconds(15, 19, "c")
        partition.refused("b", 18.9)
        partition.flush()
        second = subprocess.Popen(command, stderr=subprocess.PIPE)
        two = until(broker, DetectorStarted, 2)
        while not any(lost_of(f) == "b" for f in two):  # each time one more: a is told again
            two = until(broker, NodeLost, 1 + sum(lost_of(f) != "" for f in two))
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.communicate(timeout=10)
    started = [f.data for f in two if isinstance(f.data, DetectorStarted)]
    assert [s.partition for s in started] == [1, 1]
    assert started[1].from_offset == 0  # a minute before, not where the first one had come to
    lost = {
        f.envelope.event_id: f.envelope.aggregate_id for f in two if isinstance(f.data, NodeLost)
    }
    assert sorted(lost.values()) == ["a", "b"]  # what was said again has the same id


def test_heartbeats_too_large_for_a_letter_or_behind_an_open_transaction_stop_no_detector(
    broker: str,
) -> None:
    stranger = Producer(
        {
            "bootstrap.servers": broker, "transactional.id": "stranger", "log_level": 0,
            "message.max.bytes": 1_048_588,
        }
    )  # fmt: skip
    before, told = len(records(broker, DEAD, 1)), len(verdicts(broker))
    large = b"x" * 1_000_000
    stranger.init_transactions(20)
    stranger.begin_transaction()
    stranger.produce(BEATS, large, b"large", partition=1)
    assert stranger.flush(20) == 0
    partition = Partition(broker)
    partition.seconds(100, 110, "de")
    partition.seconds(110, 114, "e")
    partition.refused("d", 113.9)
    partition.flush()
    command = [sys.executable, "-c", AGENT, broker]
    agent = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 60
        while not any(lost_of(f) == "d" for f in verdicts(broker)[told:]):
            assert agent.poll() is None
            assert time.monotonic() < end
            time.sleep(0.2)
    finally:
        agent.kill()
        agent.communicate(timeout=10)
        stranger.abort_transaction(20)
    letter = next(raw for raw in records(broker, DEAD, 1)[before:] if raw.key == b"large")
    headers = dict(letter.headers)
    assert letter.value is None
    assert headers["dlt-left-out"] == str(len(large)).encode()
