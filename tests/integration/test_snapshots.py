"""A node begins with what is alive: from a snapshot, equal to a fold from the log's beginning."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
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
from everlode.control.fold import MAX_TICKS, ControlState
from everlode.control.snapshot import EVERY, from_bytes
from everlode.errors import IntegrityError, Unavailable
from everlode.events import commands as c
from everlode.events.barriers import Barrier, Marker
from everlode.events.base import Fact
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.control import LeaseRenewed, ScopeAssigned
from everlode.events.health import DetectorStarted
from everlode.events.miners import MinerRegistered
from everlode.events.recovery import OperationStarted
from everlode.events.rewards import RewardWithheld
from everlode.events.states import State
from everlode.failover import inbox
from everlode.failover.inbox import Inbox, Read
from everlode.log.facts import FactLog, LoggedFact
from everlode.log.folds import Folds
from everlode.log.signals import SignalWriter
from everlode.sdk import Ack, EventProducer
from everlode.sdk.known import _Folds as OwnFolds
from everlode.settings.endpoints import Endpoints, RegionParts
from everlode.snapshots.read import read_snapshot
from everlode.stack.retention import late_readers, writers_of
from everlode.state.ended import ended
from everlode.topics.catalogue import catalogue
from everlode.topics.names import (
    CONTROL_SNAPSHOT_TOPIC,
    command_topic,
    fact_topic,
)
from everlode.topics.partition import partition_of
from tests.support.facts.whole_topic import records
from tests.support.world.known import TOPOLOGY, Known, Node, kept, same
from tests.support.world.region import PARTITIONS, Region, until

pytestmark = pytest.mark.timeout(300)
DYING = "tests.support.processes.dying_node"


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    with Region(tmp_path_factory.mktemp("region")) as made:
        yield made


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


def test_what_retention_removed_is_known_from_the_snapshot(region: Region) -> None:
    """Registration, stake, seq, versions, and what a repeat is answered, outlive the facts."""
    first = region.leader("miner-registry", "miners", "eu-mr-1", DYING, "often")
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
        acks += emit_until_killed(region, epoch, chance.uniform(2.0, 3.5))
        fresh, full = OwnFolds(("rewards",)), OwnFolds(("rewards",))
        same(
            Known(region, "rewards", fresh, snapshot=True),
            Known(region, "rewards", full, snapshot=False),
        )
        assert {a.event_id: fresh.known.get(a.event_id) for a in acks} == {
            a.event_id: (a.partition, a.offset) for a in acks
        }
    assert len(acks) > 100
    left = full.states["rewards"].keys() - fresh.states["rewards"].keys()
    assert left, "vacuous: nothing has left"
    assert all(ended(full.states["rewards"][key]) for key in left)
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


def begun(way_out: str, folder: Path, source: str) -> Any:
    """What the way out of the error prints, or its error."""
    words = way_out.replace("OTHER", source).split()[1:]
    run = [sys.executable, "-m", "everlode.cli.main", *words, "--json", "--dir", str(folder)]
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
    (hint,) = {row.hint for row in late}
    second = region.node("task-manager", "eu-tm-2")
    epoch = region.assign("tasks", "eu-tm-2")
    until(lambda: second.process.poll() is not None, 60, "it ends")
    assert second.process.returncode == 13
    said = second.log.read_text()
    assert "beginning_lost" in said
    assert re.search(rf"{re.escape(topic)}/0: everything from seq \d+ on is gone", said)
    assert region.records(topic) == left
    (way_out,) = set(re.findall(r"everlode recover beginning \S+ --region \S+ --from OTHER", said))
    assert way_out in hint, "`doctor` and the node name the same one"
    begun_from = partial(begun, way_out, tmp_path)
    # a copy that ends sooner is not taken for all there was
    assert begun_from("ap")["error"]["code"] == "longer_copy"
    found = begun_from("us")["filled"]
    assert [(one["partition"], one["emptied"]) for one in found] == [(0, True), (1, False)]
    assert found[0]["last"] == full.seqs[0]
    assert found[1]["last"] < full.seqs[1]
    assert begun_from("us")["filled"] == []
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
