"""A node begins with what is alive: from a snapshot, equal to a fold from the log's beginning."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from everlode.adapters.clock import WallClock, millis
from everlode.adapters.kafka import Raw, Reader, Record
from everlode.adapters.kafka_admin import admin_client
from everlode.adapters.kafka_follower import ControlFollower
from everlode.adapters.kafka_sender import Sender
from everlode.adapters.kafka_topics import alter_topic, ensure_topics
from everlode.avro.codec import Codec
from everlode.avro.snapshots import decode_snapshot
from everlode.control.fold import MAX_TICKS, ControlState
from everlode.control.snapshot import EVERY, from_bytes
from everlode.errors import IntegrityError, Refusal, Unavailable
from everlode.events import commands as c
from everlode.events.barriers import Barrier, Marker
from everlode.events.base import Event, Fact
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.control import LeaseRenewed, NodeJoined, ScopeAssigned
from everlode.events.health import DetectorStarted
from everlode.events.identity import name_of
from everlode.events.miners import MinerRegistered
from everlode.events.recovery import OperationStarted
from everlode.events.rewards import RewardWithheld
from everlode.events.snapshots import SnapshotEntry
from everlode.events.states import State, ValidationState
from everlode.events.tasks import TaskAssigned, TaskSolved, TaskSubmitted
from everlode.failover import inbox
from everlode.failover.inbox import Inbox, Read
from everlode.log.facts import FactLog, LoggedFact
from everlode.log.folds import AtHand, Folds
from everlode.log.memory import Memory
from everlode.log.signals import SignalWriter
from everlode.miners.component import MinerComponent
from everlode.primary.component import Component
from everlode.rewards.component import RewardComponent
from everlode.rewards.sink import Fence
from everlode.sdk import Ack, EventProducer, MiningClient
from everlode.sdk.known import _Folds as OwnFolds
from everlode.settings.endpoints import Endpoints, RegionParts
from everlode.snapshots.read import read_snapshot
from everlode.stack.retention import late_readers, writers_of
from everlode.state.ended import ended
from everlode.state.fraudrules import copied_solution, handed_in
from everlode.state.validation import validation_id
from everlode.topics import Topology
from everlode.topics.catalogue import catalogue
from everlode.topics.names import (
    CONTROL_SNAPSHOT_TOPIC,
    archive_topic,
    command_topic,
    fact_topic,
)
from everlode.topics.partition import partition_of
from everlode.validations.component import ValidationComponent
from tests.support.facts.accepted import accepted, suspected
from tests.support.facts.state_commands import sha256_of
from tests.support.facts.whole_topic import records
from tests.support.world.region import PARTITIONS, Region, until

pytestmark = pytest.mark.timeout(300)
TOPOLOGY = Topology(regions=("eu",), partitions=PARTITIONS)


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    with Region(tmp_path_factory.mktemp("region")) as made:
        yield made


class NoSink:
    """Nobody is paid by a node that only looks."""

    def pay(self, key: str, miner_id: str, amount_micro: int, fence: Fence) -> str:
        raise AssertionError(key)

    def find(self, key: str, fence: Fence) -> str | None:
        raise AssertionError(key)


class Known:
    """What a writer that starts now knows, without taking part."""

    def __init__(self, region: Region, name: str, folds: Folds, *, snapshot: bool) -> None:
        parts = RegionParts("eu", "eu.1", region.bootstrap, PARTITIONS)
        self.folds = folds
        with closing(
            FactLog(region.bootstrap, "eu.1", name, PARTITIONS, self.folds.fold, wait_ms=10)
        ) as log:
            self.memory = Memory(self.folds, log, parts)
            self.memory.arrived = self.arrived
            if snapshot:
                self.memory.start()
                self.memory.catch_up()
            at = {(log.topic, p): 0 for p in range(PARTITIONS)}
            with closing(Reader(region.bootstrap, "ends")) as reader:
                ends = reader.unread(at)
            until(lambda: self._at_end(log, ends), 60, "it has read all facts")
            if snapshot:
                self.memory.catch_up()
            self.seqs, self.epochs, self.stamp = log.seqs, log.epochs, log.clock.last

    def arrived(self, state: State) -> None:
        """A validation was found in the archive."""

    def _at_end(self, log: FactLog, ends: dict[tuple[str, int], int]) -> bool:
        log.follow(0.1)
        position = log._reader.positions(ends)
        return all(position[at] >= end for at, end in ends.items())


class Node(Known):
    """A node."""

    def __init__(
        self, region: Region, name: str, *, snapshot: bool, at_hand: AtHand | None = None
    ) -> None:
        self.component: Component = MinerComponent("eu", TOPOLOGY)
        if name == "rewards":
            self.component = RewardComponent("eu", TOPOLOGY, NoSink())
        if name == "validations":
            self.component = ValidationComponent("eu", TOPOLOGY)
        if at_hand is not None:
            self.component.folds.keep(at_hand)
        super().__init__(region, name, self.component.folds, snapshot=snapshot)

    def arrived(self, state: State) -> None:
        """See Known."""
        self.component.arrived(state)


def same(fresh: Known, full: Known) -> None:
    """All that is known is the same, key by key."""
    assert (fresh.seqs, fresh.epochs) == (full.seqs, full.epochs)
    assert fresh.stamp >= full.stamp
    for component, states in full.folds.states.items():
        keys = {*states, *(key for name, key in full.folds.versions if name == component)}
        found: dict[str, State | None] = {key: fresh.folds.get(component, key) for key in keys}
        assert found == {key: dict.get(states, key) for key in keys}
        for key in keys:
            assert fresh.folds.version(component, key) == full.folds.version(component, key)
    assert dict(fresh.folds.answers) == dict(full.folds.answers)


def kept(region: Region, name: str) -> Folds:
    """What is in the memory of a node that starts from the snapshot."""
    return Node(region, name, snapshot=True).folds


@pytest.mark.parametrize("fails", ["ends", "beginnings", "bounds", "unread", "folding"])
def test_log_reads_on_whatever_a_look_at_it_ran_into(
    region: Region, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """A failed start or promotion leaves a follower that follows, and misses nothing."""
    scope, folded = "validation/eu", list[int]()

    def away(*_: object, **__: object) -> None:
        raise Unavailable(fails)

    def fold(placed: LoggedFact) -> None:
        if fails == "folding" and broken:
            away()
        folded.append(placed.fact.envelope.seq if placed.partition == 0 else 0)

    def log_of() -> FactLog:
        return FactLog(region.bootstrap, "eu.1", "validations", PARTITIONS, fold, wait_ms=10)

    broken = False
    with closing(log_of()) as writer, closing(log_of()) as log:
        marker = Marker(writer.topic, "eu.1", scope, 1, "n")

        def write() -> None:
            now = datetime.now(UTC).replace(microsecond=0)
            stamp, barrier = writer.next_stamp(millis(now)), Barrier(writer_id="n")
            marks = [marker.envelope(p, writer.seqs[p] + 1, stamp, now) for p in range(PARTITIONS)]
            writer.append([(p, mark, barrier) for p, mark in enumerate(marks)])

        writer.open({scope: 1})
        write()
        folded.clear()
        looks: dict[str, Callable[[], object]] = {
            "ends": log.ends, "beginnings": log.is_whole, "bounds": lambda: log.follow(0.1),
            "unread": lambda: log.open({scope: 1}), "folding": lambda: log.read_to_ends(30),
        }  # fmt: skip
        broken = True
        with monkeypatch.context() as patch:
            if fails != "folding":
                patch.setattr(Reader, fails, away)
            with pytest.raises(Unavailable, match=fails):
                looks[fails]()
        broken = False
        write()
        wanted = list(range(1, writer.seqs[0] + 1))

        def followed() -> bool:
            log.follow(0.2)
            return [seq for seq in folded if seq] == wanted

        until(followed, 30, f"all that was written is followed: {wanted}")


def remove_an_unread_command(region: Region) -> Raw:
    """One that came while nobody led, and that retention has removed by now."""
    topic = command_topic("eu", "miners")
    before = len(region.records(topic))
    with region.client("m1") as client:
        client.send("eu/m1", c.DepositStake(amount_micro=3), command_id="never")
        until(lambda: len(region.records(topic)) > before, 20, "the command is there")
    last = max((r for r in region.records(topic) if r.key == b"eu/m1"), key=lambda r: r.offset)
    gone = [TopicPartition(topic, last.partition, last.offset + 2)]
    sender = Sender(region.bootstrap)
    for _ in range(2):  # something that is there
        sender.send(Record(topic, last.partition, "eu/m1", b"junk", []))
    assert sender.flush(20) == 0
    admin = admin_client(region.bootstrap)  # must live until it has answered
    for future in admin.delete_records(gone).values():
        future.result()
    return last


def others_of(component: str) -> set[str]:
    """The groups of the other components' primaries."""
    return {f"group primary.{c}.eu" for c in FACT_COMPONENTS if c != component}


class Judging:
    """A task service that hands solutions in, and an expert who judges as much as it can."""

    def __init__(self, chance: random.Random) -> None:
        self._chance, self._count = chance, 0
        self._open: list[str] = []
        """Validations that only an expert decides, and that nobody has voted on."""
        self._voted: list[str] = []

    def go_on(self, region: Region, seconds: float) -> None:
        """Hand in, and vote on all but the last ones, also on old ones, which left the memory."""
        end, chance = time.monotonic() + seconds, self._chance
        with (
            EventProducer(region.endpoints, "eu", "tasks", epoch=1) as producer,
            region.client("judging", timeout_s=60) as client,
        ):
            while time.monotonic() < end:
                self._count += 1
                task = f"eu/s{self._count}"
                for fact in self._solved(f"s{self._count}"):
                    last = producer.emit(task, fact)
                if self._count % 20 == 0:
                    last.result(30)
                    self._vote_on(client, self._open[:-5])
                if chance.random() < 0.3 and self._voted:
                    client.send(chance.choice(self._voted), self._vote())
                time.sleep(0.02)

    def _vote_on(self, client: MiningClient, some: list[str]) -> None:
        """Vote on each as soon as it has been asked for."""
        for key in some:
            until(partial(self._is_taken, client, key), 30, f"a vote on {key} is taken")
            self._open.remove(key)
            self._voted.append(key)

    def _is_taken(self, client: MiningClient, key: str) -> bool:
        try:
            return client.call(key, self._vote()).outcome == "done"
        except Refusal as error:
            if error.code == "no_validation":  # the primary reads the solution later
                return False
            raise

    def _solved(self, name: str) -> list[Event]:
        """The facts of a task that is handed in; one of three is an expert's."""
        chance = self._chance
        kind = chance.choice(("inference", "inference", "training"))
        answer = chance.choice((name, "known", "wrong"))
        if kind == "inference":
            planted = sha256_of("known") if answer != name else None
        else:
            planted = None
            self._open.append(f"eu/v-{name}-1")
        miner, day = chance.choice("abc"), datetime.now(UTC).replace(microsecond=0)
        asked = TaskSubmitted(
            client_id="c", task_type=kind, payload_uri="u", payload_sha256=sha256_of("p"),
            payload_bytes=1, cpu_milli=1, memory_mib=1, gpus=1, gpu_milli=1, base_reward_micro=1,
            max_attempts=1, deadline_at=day + timedelta(days=900), planted_sha256=planted,
        )  # fmt: skip
        given = TaskAssigned(
            attempt=1, miner_id=miner, manager_node="n", lease_until=day + timedelta(days=1),
            base_reward_micro=1,
        )  # fmt: skip
        solved = TaskSolved(
            attempt=1, miner_id=miner, solution_id=name, solution_uri="u",
            solution_sha256=sha256_of(answer), solution_bytes=1, work_ms=10**6, task_type=kind,
            payload_sha256=sha256_of("p"), payload_bytes=1, planted_sha256=planted,
            base_reward_micro=1,
        )  # fmt: skip
        return [asked, given, solved]

    def _vote(self) -> c.CastVote:
        good = self._chance.random() < 0.7
        return c.CastVote(voter_id="x", voter_kind="expert", accept=good, score_ppm=900_000)


def await_left(region: Region) -> None:
    """Wait until a node that starts now has two thirds of the validations not in its memory."""
    whole = Node(region, "validations", snapshot=False).folds.states["validations"]
    until(
        lambda: len(kept(region, "validations").states["validations"]) < len(whole) / 3,
        60,
        "what is decided has left",
    )


def same_view(fresh: Node, full: Node) -> None:
    """What the fraud rules look at is the same."""
    seen, whole = (node.component.view_of("eu") for node in (fresh, full))
    for miner in ("a", "b", "c", "x"):
        assert seen.work(miner) == whole.work(miner)
        assert seen.honeypots(miner) == whole.honeypots(miner)
        assert seen.reviews(miner) == whole.reviews(miner)
    assert set(seen.audits_due()) == set(whole.audits_due())
    validations = full.folds.states["validations"].values()
    for one in [handed_in(s) for s in validations if isinstance(s, ValidationState)]:
        found = copied_solution(one, seen.firsts(one.solution_sha256))
        assert found == copied_solution(one, whole.firsts(one.solution_sha256))


def test_validations_and_cases_leave_and_all_that_the_rules_ask_stays(region: Region) -> None:
    judging = Judging(random.Random(20261130))
    joined = NodeJoined(
        node_id="x", region="eu", component="validation", kind="expert", endpoint="", priority=0
    )
    region.control.append("x", joined, node_id="x")
    for number, ending in enumerate((signal.SIGKILL, signal.SIGTERM)):
        primary = region.leader("validator", "validations", f"eu-val-{number}")
        judging.go_on(region, 6.5)
        if ending == signal.SIGTERM:
            # what a primary still owes the snapshot when it ends, its successor folds from facts:
            # what has left is looked for while it leads
            await_left(region)
        primary.signal(ending)
        primary.process.wait(40)
        fresh = Node(region, "validations", snapshot=True)
        full = Node(region, "validations", snapshot=False)
        same(fresh, full)
        same_view(fresh, full)
    alive, whole = (node.folds.states["validations"] for node in (fresh, full))
    assert len(whole) > 50
    assert len(alive) < len(whole) / 3, "what is decided has left"
    assert any(s.judged for s in whole.values() if isinstance(s, ValidationState))


def owe_for(producer: EventProducer, seconds: float, prefix: str, chance: random.Random) -> None:
    """Let rewards be owed; one of ten is withheld, and stays."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        task = f"{prefix}-{number}"
        number += 1
        if chance.random() < 0.1:
            producer.emit(f"eu/case-{name_of(task)}", suspected(task))
        for one in accepted(task, "m"):
            producer.emit(validation_id(task, 1), one)
        time.sleep(0.02)


def test_start_from_a_snapshot_equals_one_from_the_beginning_whenever_the_writer_is_killed(
    region: Region,
) -> None:
    chance = random.Random(20261128)
    moments = [0.5, *(chance.uniform(4.5, 8.0) for _ in range(3))]
    archived = 0
    with EventProducer(region.endpoints, "eu", "validations", epoch=50) as producer:
        for number, moment in enumerate(moments):
            primary = region.leader("reward-distributor", "rewards", f"eu-rd-{number}")
            owe_for(producer, moment, f"eu/t{number}", chance)
            primary.kill()
            fresh = Node(region, "rewards", snapshot=True)
            same(fresh, Node(region, "rewards", snapshot=False))
            archived = len(region.records(archive_topic("eu.1", "rewards")))
    assert archived > 100
    alive = kept(region, "rewards").states["rewards"]
    full = Node(region, "rewards", snapshot=False).folds.states["rewards"]
    assert len(alive) < len(full) - 100, "what has ended is not in memory"
    small = Node(region, "rewards", snapshot=True, at_hand=AtHand(ended=7))
    assert {key: small.folds.get("rewards", key) for key in full} == full
    assert len(small.memory._archive._kept) == 7, "what was found again, no more than is set"


def test_standby_forgets_what_its_primary_has_archived(region: Region) -> None:
    standby = Node(region, "rewards", snapshot=False)
    codec = Codec()
    entries = [
        decode_snapshot(codec, raw.value)
        for raw in region.records(archive_topic("eu.1", "rewards"))
    ]
    named = {entry.key for entry in entries if isinstance(entry, SnapshotEntry)}
    assert named
    with closing(FactLog(region.bootstrap, "eu.1", "rewards", PARTITIONS, lambda _: None)) as log:
        parts = RegionParts("eu", "eu.1", region.bootstrap, PARTITIONS)
        memory = Memory(standby.component.folds, log, parts)
        memory.start()
        memory._leave([entry for entry in entries if isinstance(entry, SnapshotEntry)])
        left = {key for key, s in standby.folds.states["rewards"].items() if ended(s)}
        assert not left & named
        for _, key in standby.folds.dirty.oldest(time.monotonic()):
            standby.folds.kept(key)  # what it would have to write if it led now is there


def test_what_retention_removed_is_known_from_the_snapshot(region: Region) -> None:
    """Registration, stake, seq, versions, and what a repeat is answered, outlive the facts."""
    first = region.leader("miner-registry", "miners", "eu-mr-1")
    with region.client("m1") as client:
        client.register_miner(["inference"], endpoint="m1")
        once = client.call("eu/m1", c.DepositStake(amount_micro=7), command_id="once")
    before = Node(region, "miners", snapshot=False)

    where = partition_of("eu/m1", PARTITIONS)

    def covered() -> bool:
        marks = read_snapshot(region.bootstrap, "eu.1", "miners", PARTITIONS).marks
        return where in marks and marks[where].seq >= once.facts[-1].seq

    until(covered, 30, "a mark covers them")
    first.kill()
    marks = read_snapshot(region.bootstrap, "eu.1", "miners", PARTITIONS).marks
    admin = admin_client(region.bootstrap)
    topic = fact_topic("eu.1", "miners")
    gone = [TopicPartition(topic, p, mark.next_offset) for p, mark in marks.items()]
    for future in admin.delete_records(gone).values():
        future.result()
    for future in admin.delete_consumer_groups(["primary.miners.eu"]).values():
        future.result()
    unread = remove_an_unread_command(region)
    assert not [f for f in region.facts("miners") if isinstance(f.data, MinerRegistered)]
    place = region.endpoints.regions["eu"]
    known = writers_of("eu", place, PARTITIONS, others_of("miners"))
    assert known[f"writer of {topic}"] == {at[:2]: at[2] for at in map(position, gone)}
    (late,) = [
        late
        for late in late_readers("eu", region.bootstrap, known)
        if late.topic in (unread.topic, topic)  # of the facts all that are gone are in the snapshot
    ]
    assert late.reader == "group primary.miners.eu"
    assert (late.removed > 0, "clients send commands again" in late.hint) == (True, True)
    second = region.leader("miner-registry", "miners", "eu-mr-2")
    second.await_entry("InputsRemoved", topic=unread.topic, partition=unread.partition)
    with region.client("m1") as client:
        again = client.call("eu/m1", c.DepositStake(amount_micro=7), command_id="once")
        assert (again.outcome, again.facts) == ("repeated", once.facts)
        more = client.call("eu/m1", c.DepositStake(amount_micro=5))
        assert (more.outcome, more.facts[0].version) == ("done", 3)
    (now,) = kept(region, "miners").states["miners"].values()
    assert now.version == 3
    partition = more.facts[0].partition
    assert more.facts[0].seq > before.seqs[partition], "seq goes on"
    second.kill()


def position(at: TopicPartition) -> tuple[str, int, int]:
    return at.topic, at.partition, at.offset


def emit_until_killed(region: Region, epoch: int, seconds: float) -> list[Ack]:
    """The Acks of a program with a producer of its own, which ends by SIGKILL."""
    stack = str(region.folder / "stack")
    arguments = [sys.executable, "-m", "tests.support.processes.emitting", stack, str(epoch)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        first = program.stdout.readline()
        threading.Timer(seconds, program.kill).start()
        lines = [first, *program.stdout]
    found = [line.split() for line in lines if line.endswith("\n")]
    return [Ack(event, topic, int(p), int(at)) for event, topic, p, at in found]


def test_own_producer_begins_with_its_snapshot_and_forgets_nothing_that_it_acknowledged(
    region: Region,
) -> None:
    chance = random.Random(20261129)
    acks: list[Ack] = []
    for epoch in (101, 102):
        acks += emit_until_killed(region, epoch, chance.uniform(5.5, 7.0))
        fresh, full = OwnFolds(("rewards",)), OwnFolds(("rewards",))
        same(
            Known(region, "rewards", fresh, snapshot=True),
            Known(region, "rewards", full, snapshot=False),
        )
        assert {a.event_id: fresh.known.get(a.event_id) for a in acks} == {
            a.event_id: (a.partition, a.offset) for a in acks
        }
    assert len(acks) > 100
    assert len(fresh.states["rewards"]) < len(full.states["rewards"]) / 2, "what ended has left"
    place = region.endpoints, "eu", "rewards"
    everything: list[Fact] = []
    with EventProducer(*place, epoch=104, folded=everything.append):
        known = {fact.envelope.event_id for fact in everything}
        assert {ack.event_id for ack in acks} <= known
    marks = read_snapshot(region.bootstrap, "eu.1", "rewards", PARTITIONS).marks
    topic = fact_topic("eu.1", "rewards")
    gone = [TopicPartition(topic, p, mark.next_offset) for p, mark in marks.items()]
    admin = admin_client(region.bootstrap)  # must live until it has answered
    for future in admin.delete_records(gone).values():
        future.result()
    behind = writers_of("eu", region.endpoints.regions["eu"], PARTITIONS, ())
    assert behind[f"writer of {topic}"] == {at[:2]: at[2] for at in map(position, gone)}
    with pytest.raises(IntegrityError, match="its first facts are gone") as caught:
        EventProducer(*place, epoch=105, folded=everything.append)
    assert (caught.value.code, "restored" in caught.value.hint) == ("beginning_lost", True)
    alive: list[State] = []
    later: list[Fact] = []
    withheld = RewardWithheld(case_id="c", reason="r")
    with EventProducer(*place, epoch=105, restored=alive.append, folded=later.append) as own:
        assert not later
        stay = {key for key, state in fresh.states["rewards"].items() if not ended(state)}
        assert {state.key for state in alive} == stay
        again = own.emit("eu/own-101-1|m", withheld, event_id=acks[0].event_id)
        assert again.result(30) == acks[0]
        paid = own.state("rewards", "eu/own-101-1|m")
        assert paid is not None
        assert (paid.status, paid.version) == ("paid", 2)
        assert own.state("rewards", "eu/own-101-10|m") is None
        own.emit("eu/own-101-4|m", withheld).result(30)
        own.emit("eu/own-101-10|m", withheld).result(30)
        now = own.state("rewards", "eu/own-101-4|m")
        assert now is not None
        assert (now.status, now.version) == ("withheld", 2)
    assert [fact.envelope.version for fact in later] == [2, 2]
    last = Known(region, "rewards", OwnFolds(("rewards",)), snapshot=True).seqs
    assert all(last[p] > mark.seq for p, mark in marks.items()), "seq goes on"


def copied(region: Region, topic: str, folder: Path) -> Endpoints:
    """Endpoints with a region us beside eu, which has eu's topic as a mirror would bring it."""
    bootstrap = region.endpoints.control_bootstrap
    assert bootstrap is not None
    ensure_topics(bootstrap, [spec for spec in catalogue(TOPOLOGY) if spec.name == topic])
    sender = Sender(bootstrap)
    for raw in region.records(topic):
        sender.send(Record(topic, raw.partition, raw.key, raw.value, raw.headers))
    assert sender.flush(30) == 0
    eu = region.endpoints.regions["eu"]
    us = eu.model_copy(update={"kafka_bootstrap": bootstrap, "origin": "us.1"})
    ap = eu.model_copy(update={"origin": "ap.1"})  # whose copy is as empty as eu's log
    topology = TOPOLOGY.model_copy(update={"regions": ("eu", "us", "ap")})
    found = region.endpoints.model_copy(
        update={"regions": {"eu": eu, "us": us, "ap": ap}, "topology": topology}
    )
    found.save(folder)
    return found


def begun(folder: Path, source: str) -> Any:
    """What `everlode recover beginning` prints, or its error."""
    words = ["recover", "beginning", "tasks", "--region", "eu", "--from", source, "--json"]
    run = [sys.executable, "-m", "everlode.cli.main", *words, "--dir", str(folder)]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    return json.loads(done.stdout)


def test_log_that_lacks_what_no_snapshot_has_is_not_led_until_a_copy_brings_it_back(
    region: Region, tmp_path: Path
) -> None:
    """It names what it lacks; nothing is written on top of it."""
    first = region.leader("task-manager", "tasks", "eu-tm-1")
    with region.client("c1") as client:
        answers = [
            client.submit_task(f"t{n}", "inference", "s3://x", "0" * 64, 1) for n in range(12)
        ]
    first.kill()
    topic = fact_topic("eu.1", "tasks")
    copied(region, topic, tmp_path)
    full = Known(region, "tasks", Folds(("tasks",), lambda *_: None), snapshot=False)
    # partition 0 is emptied, 1 is left with its last task
    last = max(a.facts[0].offset for a in answers if a.facts[0].partition == 1)
    admin = admin_client(region.bootstrap)
    with closing(Reader(region.bootstrap, "ends")) as reader:
        end = reader.ends([(topic, 0)])[topic, 0]
    gone = [TopicPartition(topic, 0, end), TopicPartition(topic, 1, last)]
    for future in admin.delete_records(gone).values():
        future.result()
    left = region.records(topic)
    place = region.endpoints.regions["eu"]
    known = writers_of("eu", place, PARTITIONS, others_of("tasks"))
    late = [row for row in late_readers("eu", region.bootstrap, known) if row.topic == topic]
    assert {row.reader for row in late} == {f"writer of {topic}"}
    assert all(row.removed > 0 and "does not start" in row.hint for row in late)
    second = region.node("task-manager", "eu-tm-2")
    epoch = region.assign("tasks", "eu-tm-2")
    until(lambda: second.process.poll() is not None, 60, "it ends")
    assert second.process.returncode == 13
    said = second.log.read_text()
    assert "beginning_lost" in said
    assert re.search(rf"{re.escape(topic)}/0: everything from seq \d+ on is gone", said)
    assert region.records(topic) == left
    # a copy that ends sooner is not taken for all there was
    assert begun(tmp_path, "ap")["error"]["code"] == "longer_copy"
    found = begun(tmp_path, "us")["filled"]
    assert [(one["partition"], one["emptied"]) for one in found] == [(0, True), (1, False)]
    assert found[0]["last"] == full.seqs[0]
    assert found[1]["last"] < full.seqs[1]
    assert begun(tmp_path, "us")["filled"] == []
    assert region.records(topic) == left, "nothing is written into the log"
    third = region.node("task-manager", "eu-tm-2")
    third.leads(epoch)
    with region.client("c1") as client:
        again = [client.submit_task(f"t{n}", "inference", "s3://x", "0" * 64, 1) for n in range(12)]
        assert [a.facts[0].event_id for a in again] == [a.facts[0].event_id for a in answers]
        client.submit_task("t-new", "inference", "s3://x", "0" * 64, 1)
    third.kill()
    now = Known(region, "tasks", Folds(("tasks",), lambda *_: None), snapshot=True)
    stay = {key for key, state in full.folds.states["tasks"].items() if not ended(state)}
    assert len(stay) >= 12
    assert set(now.folds.states["tasks"]) > stay
    assert all(now.seqs[p] > full.seqs[p] for p in range(PARTITIONS)), "seq goes on"


def read_control(region: Region, *, whole: bool = False) -> tuple[ControlState, list[Fact]]:
    """The control log's state, and the records that it was folded from."""
    bootstrap = region.endpoints.control_bootstrap
    assert bootstrap is not None
    found: list[Fact] = []
    follower = ControlFollower(bootstrap, lambda _, fact, __: found.append(fact), whole=whole)
    state = follower.start().state
    follower.close()
    return state, found


def kept_at(region: Region) -> int:
    """Position of the control log's newest snapshot; -1: there is none."""
    bootstrap = region.endpoints.control_bootstrap
    assert bootstrap is not None
    states = [from_bytes(raw.value) for raw in records(bootstrap, CONTROL_SNAPSHOT_TOPIC, 1)]
    return max((state.position for state in states if state is not None), default=-1)


def is_kept(region: Region, position: int) -> bool:
    return kept_at(region) > position


def test_coordinator_that_leads_keeps_the_control_log_and_it_is_read_from_there(
    region: Region,
) -> None:
    coordinator = region.coordinator("eu-co-keeps")
    coordinator.ready()

    def leads() -> bool:
        led = region.follower.state.scopes.get("coordinator/eu")
        return led is not None and led.primary == "eu-co-keeps" and led.renewed_at >= 0

    until(leads, 60, "it leads")
    before = kept_at(region)
    for _ in range(2):  # at its start it may have nothing to keep yet, then each EVERY records
        region.assign("validations", "nobody")
        renewed = LeaseRenewed(scope_name="validation/eu", node_id="no", held_epoch=1, nonce="n")
        for _ in range(EVERY):
            region.control.append_async("validation/eu", renewed, node_id="no")
        last = region.control.append("validation/eu", renewed, node_id="no")
        until(partial(is_kept, region, last - EVERY), 30, "it has kept the log")
    assert kept_at(region) >= before + EVERY
    coordinator.kill()
    now, tail = read_control(region)
    history, all_of_it = read_control(region, whole=True)
    assert now == history
    assert len(tail) < 2 * EVERY < len(all_of_it)


def test_coordinator_begins_with_the_last_signals_and_what_is_recent(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SignalWriter(region.bootstrap, "eu.1", WallClock())
    verdict = DetectorStarted(partition=0, from_offset=0)
    started = OperationStarted(
        kind="drill", region="eu", subject="x", scope_name="s/eu", scope_epoch=1, evidence=()
    )
    for number in range(9):
        writer.signal(verdict, topic="health", key=f"d-{number}", partition=0)
        writer.signal(started, topic="recovery", key=f"o-{number}", partition=0)
    writer.close()
    parts = RegionParts("eu", "eu.1", region.bootstrap, PARTITIONS)

    def begins_with() -> list[list[str]]:
        with closing(Inbox(parts, "looks", ["tasks"], lambda: False)) as box:
            found = list[Read]()
            while not box.caught_up:
                found += box.read()
        assert all(read.behind for read in found)
        return [
            [r.fact.envelope.aggregate_id for r in found if r.component == name]
            for name in ("health", "recovery")
        ]

    ours = [[f"{kind}-{n}" for n in range(9)] for kind in "do"]
    assert [names[-9:] for names in begins_with()] == ours
    monkeypatch.setattr(inbox, "SIGNALS_READ", 4)
    assert [names[-9:] for names in begins_with()] == ours, "all of these are recent"
    monkeypatch.setattr(inbox, "LOOK_BACK_S", 0.0)
    assert begins_with() == [[f"{kind}-{n}" for n in range(5, 9)] for kind in "do"]


def test_control_log_is_read_from_its_snapshot_and_whole_for_its_history(region: Region) -> None:
    for _ in range(5):
        region.assign("validations", "nobody")
    before, _ = read_control(region)
    region.control.keep(before)
    region.control.close()  # waits until it is there
    region.assign("validations", "nobody")
    now, tail = read_control(region)
    history, all_of_it = read_control(region, whole=True)
    assert now == history
    assert now.epoch("validation/eu") == before.epoch("validation/eu") + 1
    assert len(tail) < 5 < len(all_of_it), "more than the test's own record may have come meanwhile"


def test_compaction_leaves_the_control_logs_history_and_the_last_renewals(region: Region) -> None:
    bootstrap = region.endpoints.control_bootstrap
    assert bootstrap is not None
    alter_topic(
        bootstrap,
        "control",
        {"min.compaction.lag.ms": "0", "segment.ms": "200", "min.cleanable.dirty.ratio": "0.001"},
    )
    epoch = region.assign("coordinator", "co")
    scope, tasks = "coordinator/eu", "task-manager/eu"
    renewed = LeaseRenewed(scope_name=scope, node_id="co", held_epoch=epoch, nonce="n")

    def renew(times: int) -> None:
        for _ in range(times):
            region.control.append_async(scope, renewed, node_id="co")
        last = region.control.append(scope, renewed, node_id="co")
        # what the test decides next is based on them; else it would be late, too
        region.follower.wait_for(lambda s: s.position >= last, 20)

    before = region.follower.state
    late = ScopeAssigned(
        scope_name=tasks, new_epoch=before.epoch(tasks) + 1, primary_node="late", region="eu",
        reason="forced", based_on=before.position, based_on_epoch=before.epoch(tasks),
    )  # fmt: skip
    renew(MAX_TICKS + 1)
    at = region.control.append(tasks, late, node_id="co", scope=scope)
    region.control.keep(region.follower.wait_for(lambda s: s.position >= at, 20))
    renew(1_000)
    region.assign("tasks", "nobody")

    def compacted() -> bool:
        renew(0)  # a segment is cleaned once another one has begun
        _, left = read_control(region, whole=True)
        return sum(isinstance(fact.data, LeaseRenewed) for fact in left) < 500

    until(compacted, 90, "old renewals are gone")
    state, left = read_control(region, whole=True)
    decided = [fact.data for fact in left if isinstance(fact.data, ScopeAssigned)]
    assert late in decided
    assert len(decided) == sum(s.epoch for s in state.scopes.values()) + len(state.void)
    assert state == region.follower.wait_for(lambda s: s.position >= state.position, 20)
    assert set(state.late) == {at}
    assert state.scopes[tasks].primary == "nobody"
