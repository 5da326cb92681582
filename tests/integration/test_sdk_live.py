"""The SDK on a broker: facts once, positions, a region that is gone, asyncio."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from everlode.adapters.clock import WallClock
from everlode.adapters.kafka import Record
from everlode.adapters.kafka_control import ControlLog
from everlode.adapters.kafka_sender import Sender
from everlode.avro.codec import Codec, encode_fact
from everlode.errors import ContractError, DeadlineExceeded, FencedOut, Refusal
from everlode.events import commands as c
from everlode.events.base import Envelope, Fact, LedgerEntry
from everlode.events.control import LeaseRenewed
from everlode.events.heartbeats import MinerBeat
from everlode.events.miners import MinerRetired
from everlode.events.receipts import Applied
from everlode.events.rewards import RewardReversed, RewardWithheld
from everlode.events.stamp import MAX_AHEAD_MS, stamp_at
from everlode.sdk import (
    Ack,
    AsyncEventConsumer,
    AsyncEventProducer,
    AsyncMiningClient,
    Endpoints,
    EventConsumer,
    EventProducer,
    Identity,
    MinerBeacon,
    MiningClient,
    NodeAgent,
    OutcomeUnknown,
    Received,
    stampclock,
    waiting,
)
from everlode.topics import Topology
from everlode.topics.partition import partition_of
from tests.support.facts.state_commands import register
from tests.support.facts.whole_topic import records
from tests.support.world.endpoints import one_region
from tests.support.world.region import PARTITIONS, Region, until

pytestmark = pytest.mark.timeout(180)
TOPIC = "eu.1.rewards"
DAMAGED = "eu.1.receipts"
"""A topic of the catalogue that nothing in this region writes."""
FACT = RewardWithheld(case_id="c", reason="any event of the topic will do")


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    with Region(tmp_path_factory.mktemp("region")) as made:
        yield made


def producer(region: Region, epoch: int, **options: Any) -> EventProducer:
    return EventProducer(region.endpoints, "eu", "rewards", epoch=epoch, **options)


def consumer(region: Region, position: str | None = None) -> EventConsumer:
    return EventConsumer(region.endpoints, "eu", ["rewards"], position=position)


def test_event_producer_appends_each_event_id_once_with_dense_versions(region: Region) -> None:
    first = producer(region, 1)
    futures = [first.emit(f"eu/k{n % 3}", FACT, event_id=f"e{n}") for n in range(30)]
    twice = first.emit("eu/k0", FACT, event_id="e0")
    acks = [f.result(30) for f in futures]
    assert twice.result(30) == acks[0]
    first.close()
    second = producer(region, 2)  # goes on from what the log holds
    assert second.emit("eu/k0", FACT, event_id="e0").result(30) == acks[0]
    last = second.emit("eu/k0", FACT, event_id="e30").result(30)
    second.close()
    places = {(r.partition, r.offset) for r in region.records(TOPIC)}
    assert {(a.partition, a.offset) for a in [*acks, last]} <= places
    facts = [f for f in region.facts("rewards") if f.envelope.version]
    assert len(facts) == 31
    versions = [f.envelope.version for f in facts if f.envelope.aggregate_id == "eu/k0"]
    assert versions == list(range(1, 12))


@pytest.mark.timeout(300)
def test_facts_of_a_cluster_that_is_away_are_unknown_and_safe_to_repeat(region: Region) -> None:
    """A frozen broker: what was on its way, what waited, and what could not even wait."""
    (broker,) = (p.pid for p in region.stack.processes() if p.name == "eu/kafka")
    assert broker is not None
    made = producer(region, 2, window=2, timeout_s=1)
    made.emit("eu/first", FACT, event_id="first").result(30)  # with the barriers of this second
    with ThreadPoolExecutor(1) as other:
        os.kill(broker, signal.SIGSTOP)
        try:
            sent = [made.emit("eu/u", FACT, event_id="u0")]
            until(lambda: not made._emits._queue, 5, "the first is on its way")
            sent += [made.emit("eu/u", FACT, event_id=f"u{n}") for n in (1, 2)]
            blocked = other.submit(made.emit, "eu/u", FACT, event_id="u3")
            assert wait([blocked], 2).not_done, "back-pressure: two wait already"
            for number, future in enumerate([*sent, blocked.result(60)]):
                why = f"u{number} may or may not be in the log: (writing facts|offsets of)"
                with pytest.raises(OutcomeUnknown, match=why) as caught:
                    future.result(60)
                assert (caught.value.event_id, caught.value.code) == (f"u{number}", "unknown")
                assert "same event_id" in caught.value.hint
        finally:
            os.kill(broker, signal.SIGCONT)

    def acked() -> bool:
        """As its users do: the same ids again, until each is acknowledged."""
        again = [made.emit("eu/u", FACT, event_id=f"u{n}") for n in range(4)]
        wait(again)
        failed = [f"{future.exception()}" for future in again if future.exception()]
        print(*failed, sep="\n")
        return not failed

    # longer than one try to open the log may take: where nothing comes, it reads for 60 s
    until(acked, 150, "the producer has found out what is in the log")
    made.close()
    facts = [f for f in region.facts("rewards") if f.envelope.aggregate_id == "eu/u"]
    assert sorted(f.envelope.event_id for f in facts) == ["u0", "u1", "u2", "u3"]
    assert [f.envelope.version for f in facts] == [1, 2, 3, 4]


def test_event_producer_refuses_what_belongs_on_another_topic(region: Region) -> None:
    made = producer(region, 2)
    with pytest.raises(Refusal, match="MinerRetired does not belong") as caught:
        made.emit("eu/k0", MinerRetired(reason="r"))
    assert (caught.value.code, bool(caught.value.hint)) == ("wrong_topic", True)
    for key, home in {"us/k0": "us", "k0": "no region"}.items():
        with pytest.raises(Refusal, match=f"{key} is at home in {home}") as caught:
            made.emit(key, FACT)
        assert (caught.value.code, "eu/k0" in caught.value.hint) == ("not_at_home", True)
    made.close()


def test_event_producer_refuses_a_fact_that_is_too_large_and_appends_the_others(
    region: Region,
) -> None:
    entries = tuple(LedgerEntry(account=f"{n:0200}", amount_micro=0) for n in range(6000))
    large = RewardReversed(case_id="c", reason="r", amount_micro=0, entries=entries)
    made = producer(region, 2)
    futures = [made.emit("eu/large", event) for event in (FACT, large, FACT)]
    with pytest.raises(ContractError, match=r"RewardReversed is .* bytes long") as caught:
        futures[1].result(30)
    assert (caught.value.code, bool(caught.value.hint)) == ("too_large", True)
    assert futures[0].result(30).offset < futures[2].result(30).offset
    made.close()
    facts = [f for f in region.facts("rewards") if f.envelope.aggregate_id == "eu/large"]
    assert [f.envelope.version for f in facts] == [1, 2]


def test_event_producer_checks_what_a_caller_gives_in_the_callers_thread(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what fails all the same fails alone: the producer and its other emitters go on."""
    at = datetime(2026, 1, 1, 12, 0, 0, 123_987, tzinfo=UTC)
    ahead = stamp_at(time.time_ns() // 1_000_000 + MAX_AHEAD_MS + 60_000)
    with producer(region, 2) as made:
        first = made.emit("eu/given", FACT, occurred_at=at)  # microseconds: rounded down
        envelope = Envelope(
            event_id="x", aggregate_id="a", version=1, origin="us.1", scope="s", epoch=1, seq=1,
            stamp=ahead, occurred_at=at.replace(microsecond=0), correlation_id="c",
        )  # fmt: skip
        wrong: dict[str, dict[str, Any]] = {
            "naive_time": {"occurred_at": at.replace(tzinfo=None)},
            "clock_skew": {"cause": envelope},
            "bad_id": {"event_id": "\ud800"},
        }
        for code, more in wrong.items():
            with pytest.raises(Refusal) as caught:
                made.emit("eu/given", FACT, **more)
            assert (caught.value.code, bool(caught.value.hint)) == (code, True)
        monkeypatch.setattr("everlode.sdk.producer.check_cause", lambda *_: None)
        late = made.emit("eu/given", FACT, cause=envelope)  # as if the clock was set back meanwhile
        last = made.emit("eu/given", FACT)
        with pytest.raises(Refusal, match="clock skew"):
            late.result(30)
        assert first.result(30).offset < last.result(30).offset
    facts = [f.envelope for f in region.facts("rewards") if f.envelope.aggregate_id == "eu/given"]
    assert [f.version for f in facts] == [1, 2]
    assert facts[0].occurred_at == at.replace(microsecond=123_000)


def test_event_producer_folds_its_log_and_names_causes(region: Region) -> None:
    folded: list[Fact] = []
    with producer(region, 2, folded=folded.append) as made:
        before = [f.envelope.event_id for f in folded]
        assert sorted(before) == sorted(
            f.envelope.event_id for f in region.facts("rewards") if f.envelope.version
        )
        made.emit("eu/cause", FACT, event_id="the-cause").result(30)
        until(lambda: folded[-1].envelope.event_id == "the-cause", 10, "it is folded")
        cause = folded[-1].envelope
        made.emit("eu/effect", FACT, event_id="the-effect", cause=cause).result(30)
    effect = next(f for f in region.facts("rewards") if f.envelope.event_id == "the-effect")
    assert folded[-1] == effect
    assert (effect.envelope.causation_id, effect.envelope.correlation_id) == (
        "the-cause",
        "eu/cause",
    )
    assert effect.envelope.stamp > cause.stamp


def test_event_producer_whose_fold_fails_appends_no_more_and_says_why(region: Region) -> None:
    def fold(fact: Fact) -> None:
        if fact.envelope.event_id == "too-much":
            raise ValueError("the user's own mistake")

    with producer(region, 2, folded=fold) as made:
        made.emit("eu/k", FACT, event_id="too-much").result(30)  # it is in the log
        with pytest.raises(ValueError, match="own mistake"):
            made.emit("eu/k", FACT, event_id="after-it").result(30)
        with pytest.raises(ValueError, match="own mistake"):
            made.emit("eu/k", FACT)
    assert all(f.envelope.event_id != "after-it" for f in region.facts("rewards"))


def test_event_producer_of_an_old_epoch_is_fenced_and_cannot_come_back(region: Region) -> None:
    old = producer(region, 3)
    old.emit("eu/k", FACT).result(30)
    new = producer(region, 4)
    with pytest.raises(FencedOut):
        old.emit("eu/k", FACT, event_id="late").result(30)
    with pytest.raises(FencedOut):
        old.emit("eu/k", FACT)
    with pytest.raises(FencedOut):
        producer(region, 3)
    new.emit("eu/k", FACT, event_id="goes-on").result(30)  # who came late has fenced nobody
    old.close()
    new.close()
    assert all(f.envelope.event_id != "late" for f in region.facts("rewards"))


def test_event_consumer_goes_on_from_its_position_without_loss_or_repeat(region: Region) -> None:
    made = producer(region, 5)
    for future in [made.emit(f"eu/p{n}", FACT) for n in range(200)]:
        future.result(30)
    made.close()
    whole = consumer(region)
    expected = len(region.records(TOPIC))
    seen: list[tuple[int, int]] = []
    while len(seen) < expected // 2:
        seen += [(r.partition, r.offset) for r in whole.batch(50)]
    position = whole.position
    whole.close()
    rest = consumer(region, position)
    while len(seen) < expected:
        seen += [(r.partition, r.offset) for r in rest.batch(50)]
    assert rest.batch(50, 0.5) == []
    rest.close()
    assert sorted(seen) == [(r.partition, r.offset) for r in region.records(TOPIC)]
    with pytest.raises(Refusal, match="not a position"):
        consumer(region, "nonsense")
    other = one_region(region.endpoints.control(), PARTITIONS)
    with pytest.raises(Refusal, match="another cluster"):
        EventConsumer(other, "eu", ["rewards"], position=position)


def test_beacon_beats_for_each_miner_and_one_that_fails_stops_no_other(
    region: Region, caplog: pytest.LogCaptureFixture
) -> None:
    work = {"beats-a": ["t2", "t1"], "eu/beats-b": []}
    finished = {"beats-a": 7, "eu/beats-b": 0}
    beacon = MinerBeacon(
        region.endpoints, "eu", ["not-there", *work],
        running=lambda miner: work[miner], finished=lambda miner: finished[miner],
        interval_ms=600,
    )  # fmt: skip
    with beacon:
        until(lambda: beacon.sent >= 4, 30, "two beats of each")
    codec = Codec()
    beats: dict[str, list[MinerBeat]] = {}
    for raw in records(region.bootstrap, "eu.1.heartbeats", PARTITIONS):
        fact = codec.decode_fact(raw.value)
        if isinstance(fact.data, MinerBeat):
            assert raw.partition == partition_of(fact.envelope.aggregate_id, PARTITIONS)
            beats.setdefault(fact.envelope.aggregate_id, []).append(fact.data)
    assert {m: (b.running, b.work_done) for m, (b, *_) in beats.items()} == {
        "eu/beats-a": (("t1", "t2"), 7), "eu/beats-b": ((), 0),
    }  # fmt: skip
    assert sum(map(len, beats.values())) == beacon.sent
    missed = [r.getMessage() for r in caplog.records if "misses a beat" in r.getMessage()]
    assert missed
    assert set(missed) == {"miner not-there misses a beat"}


def test_agent_cut_off_from_the_real_control_log_fences_itself_and_returns(region: Region) -> None:
    seen: list[tuple[str, int]] = []
    control = region.endpoints.control_bootstrap
    assert control is not None
    agent = NodeAgent(
        Identity("eu-vd-cut", "eu", "eu.1", "validation"),
        bootstrap=region.bootstrap,
        control_bootstrap=control,
        partitions=PARTITIONS,
        scopes=("validation/eu",),
        on_role=lambda change: seen.append((change.role, change.epoch)),
        renew_ms=500,
        fence_after_ms=2_500,
    ).start()
    name = next(p.name for p in region.stack.processes() if p.kind == "control")
    try:
        epoch = region.assign("validations", "eu-vd-cut")
        until(lambda: agent.leads("validation/eu") == epoch, 20, "leads")
        region.stack.pause(name)
        until(lambda: ("fenced", epoch) in seen[2:], 20, f"fences itself: {seen}")
        assert agent.leads("validation/eu") is None
        region.stack.resume(name)
        until(lambda: agent.leads("validation/eu") == epoch, 30, "leads again")
    finally:
        region.stack.resume(name)
        agent.close()
    roles = [("secondary", 0), *[("fenced", epoch), ("primary", epoch)] * 2, ("fenced", epoch)]
    assert seen == roles
    assert agent.failed is None


def test_client_asks_the_home_of_each_id_and_creates_nothing_elsewhere(region: Region) -> None:
    """Its own region is gone: whether it has stored the command, nobody knows."""
    node = region.leader("miner-registry", "miners", "eu-mr-gone")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{unused.getsockname()[1]}"
    eu = region.endpoints.regions["eu"]
    away = eu.model_copy(update={"kafka_bootstrap": dead, "origin": "us.1"})
    endpoints = Endpoints(
        topology=Topology(regions=("us", "eu")), regions={"us": away, "eu": eu},
        control_bootstrap=None, s3=None,
    )  # fmt: skip
    before = len(region.facts("miners"))
    with MiningClient(endpoints, "us", "m-gone", timeout_s=3) as client:
        with pytest.raises(DeadlineExceeded, match=r"of us/m-gone from its home us .*never sent"):
            client.register_miner(["inference"], endpoint="x")
        waiting = client.send("us/at-home", c.DepositStake(amount_micro=1), timeout_s=3)
        with pytest.raises(DeadlineExceeded):
            waiting.result(30)
        answer = client.call("eu/m-gone", register(), timeout_s=60)
        assert (answer.outcome, answer.region, answer.aggregate_id) == ("done", "eu", "eu/m-gone")
        with pytest.raises(Refusal, match="nowhere/m is at home in nowhere") as caught:
            client.send("nowhere/m", register())
        assert (caught.value.code, "us, eu" in caught.value.hint) == ("not_at_home", True)
    new = [f for f in region.facts("miners")[before:] if f.envelope.version]
    assert {f.envelope.aggregate_id for f in new} <= {"eu/m-gone"}
    node.kill()


def test_async_client_answers_and_survives_a_cancelled_call(region: Region) -> None:
    node = region.leader("miner-registry", "miners", "eu-mr-async")

    async def story() -> list[str]:
        async with AsyncMiningClient(region.endpoints, "eu", "m-async") as client:
            await client.run(MiningClient.register_miner, ["inference"], endpoint="x")
            call = client.call("eu/m-async", c.DepositStake(amount_micro=1))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call, 0.001)
            calls = [client.call("eu/m-async", c.DepositStake(amount_micro=n)) for n in (1, 2, 3)]
            return [answer.outcome for answer in await asyncio.gather(*calls)]

    assert asyncio.run(story()) == ["done", "done", "done"]
    node.kill()


def test_async_call_that_times_out_is_asked_again_and_takes_nothing_from_another(
    region: Region,
) -> None:
    async def story() -> tuple[str, str]:
        async with AsyncMiningClient(region.endpoints, "eu", "m-again") as client:
            command = register()
            ask = partial(client.call, "m-again", command, command_id="again")
            other = asyncio.create_task(ask())
            for _ in range(3):  # nobody leads yet: no answer can come
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(ask(), 0.3)
            with pytest.raises(DeadlineExceeded):
                await ask(timeout_s=0.1)
            assert not other.done()
            again = asyncio.create_task(ask())
            node = await asyncio.to_thread(region.leader, "miner-registry", "miners", "eu-mr-again")
            answers = await asyncio.gather(other, again)
            node.kill()
            first, second = (answer.outcome for answer in answers)
            return first, second

    assert asyncio.run(story()) == ("done", "done")


def test_deadlines_hold_while_no_link_of_the_network_answers(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 commands are sent again and again, to regions of which none is there."""
    monkeypatch.setattr(waiting, "RESEND_S", 0.1)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{unused.getsockname()[1]}"
        eu = region.endpoints.regions["eu"].model_copy(update={"kafka_bootstrap": dead})
        names = ("eu", "us", "ap")
        regions = {r: eu.model_copy(update={"origin": f"{r}.1"}) for r in names}
        endpoints = Endpoints(
            topology=Topology(regions=names), regions=regions, control_bootstrap=None, s3=None,
        )  # fmt: skip
        client = MiningClient(endpoints, "eu", "m-down", timeout_s=1)
        cancel = c.CancelTask(reason="r")
        long = [client.send(f"{names[n % 3]}/t{n}", cancel, timeout_s=600) for n in range(60)]
        assert len(client._links) == 3
        with pytest.raises(DeadlineExceeded):
            client.call("t", cancel)
        assert (client.waiting(), any(future.done() for future in long)) == (60, False)
        client.close()
    assert all(isinstance(future.exception(5), DeadlineExceeded) for future in long)


def test_async_producer_appends_in_order_and_async_consumer_goes_on_from_a_position(
    region: Region,
) -> None:
    async def story() -> tuple[list[Ack], list[Received]]:
        place = region.endpoints, "eu"
        async with AsyncEventProducer(*place, "rewards", epoch=8, window=7) as made:
            cancelled = asyncio.ensure_future(made.emit("eu/a", FACT, event_id="never-mind"))
            await asyncio.sleep(0)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            acks = await asyncio.gather(*(made.emit("eu/a", FACT) for _ in range(50)))
        seen: list[Received] = []
        async with AsyncEventConsumer(*place, ["rewards"]) as first:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(first.batch(10, 5.0), 0.001)
            async for received in first:
                seen.append(received)
                if received.fact.envelope.event_id == acks[20].event_id:
                    break
            position = await first.position()
        async with AsyncEventConsumer(*place, ["rewards"], position=position) as rest:
            while len(seen) < len(region.records(TOPIC)):
                seen += await rest.batch()
        return acks, seen

    acks, seen = asyncio.run(story())
    places = [(r.partition, r.offset) for r in seen]
    assert sorted(places) == [(r.partition, r.offset) for r in region.records(TOPIC)]
    order = {r.fact.envelope.event_id: r.fact.envelope.version for r in seen}
    assert "never-mind" in order
    assert [order[a.event_id] for a in acks] == sorted(order[a.event_id] for a in acks)


def test_consumer_stays_at_a_damaged_record_unless_somebody_is_told(region: Region) -> None:
    head = Envelope(
        event_id="e", aggregate_id="k", version=0, origin="eu.1", scope="", epoch=0, seq=0,
        stamp=1, occurred_at=datetime(2026, 1, 1, tzinfo=UTC), correlation_id="k",
    )  # fmt: skip
    good = encode_fact(head, Applied(generation=1, positions=()))
    sender = Sender(region.bootstrap)
    for value in (good, b"junk", good):
        sender.send(Record(DAMAGED, 0, "k", value, []))
    assert sender.flush(10) == 0
    strict = EventConsumer(region.endpoints, "eu", ["receipts"])
    found: list[Received] = []
    while not found:
        found += strict.batch()
    for _ in range(2):
        with pytest.raises(ContractError):
            until(lambda: strict.batch() != [], 20, "the damage")
    position = strict.position
    strict.close()
    told: list[int] = []
    lenient = EventConsumer(
        region.endpoints, "eu", ["receipts"], position=position,
        damaged=lambda raw, _: told.append(raw.offset),
    )  # fmt: skip
    while len(found) < 2:
        found += lenient.batch()
    lenient.close()
    assert told == [1]
    assert [r.offset for r in found] == [0, 2]


def test_command_too_large_is_refused_and_the_client_goes_on(region: Region) -> None:
    node = region.leader("miner-registry", "miners", "eu-mr-large")
    with MiningClient(region.endpoints, "eu", "m-large", window=1, timeout_s=60) as client:
        for _ in range(2):
            with pytest.raises(ContractError, match="at most 100000") as caught:
                client.register_miner(["x" * 90] * 2000, endpoint="x")
            assert caught.value.code == "too_large"
        assert client.waiting() == 0
        assert client.register_miner(["inference"], endpoint="x").outcome == "done"
    node.kill()


def test_client_closed_fails_what_waits_and_takes_no_more(region: Region) -> None:
    client = region.client("m-closed")  # nobody leads the tasks: no answer can come
    waiting = client.send("t", c.CancelTask(reason="x"))
    client.close()
    with pytest.raises(DeadlineExceeded):
        waiting.result(5)
    with pytest.raises(Refusal, match="closed"):
        client.send("t", c.CancelTask(reason="x"))


def test_position_whose_facts_are_no_longer_kept_is_refused(region: Region) -> None:
    topic = DAMAGED
    sender = Sender(region.bootstrap)
    for n in range(4):
        sender.send(Record(topic, 0, f"k{n}", b"any", []))
    assert sender.flush(20) == 0
    place = region.endpoints, "eu", ["receipts"]
    with closing(EventConsumer(*place)) as made:
        position = made.position
    with closing(EventConsumer(*place, from_end=True)) as made:
        end = made.position
    admin = AdminClient({"bootstrap.servers": region.bootstrap})
    for future in admin.delete_records([TopicPartition(topic, 0, OFFSET_END)]).values():
        future.result(30)
    with pytest.raises(Refusal, match=f"{topic}/0@0, and what is kept begins at") as caught:
        EventConsumer(*place, position=position)
    assert caught.value.code == "position_expired"
    EventConsumer(*place, position=end).close()


class SteppedClock(WallClock):
    """A wall clock that is set wrong."""

    ahead_ms = 0

    def wall_ms(self) -> int:
        """See Clock."""
        return super().wall_ms() + self.ahead_ms


def renew(region: Region, *, ago_ms: int = 0) -> None:
    """Somebody renews a lease, as nodes do every two seconds, or did once."""
    bootstrap, clock = region.endpoints.control_bootstrap, SteppedClock()
    assert bootstrap is not None
    clock.ahead_ms = -ago_ms
    with closing(ControlLog(bootstrap, clock)) as log:
        data = LeaseRenewed(scope_name="validation/eu", node_id="n", held_epoch=1, nonce="n")
        log.append("validation/eu", data, node_id="n")


def test_event_producer_whose_clock_is_ahead_is_refused_by_name_until_it_is_right(
    region: Region,
) -> None:
    clock, hour_ms = SteppedClock(), 3_600_000
    bound = stamp_at(clock.wall_ms() + MAX_AHEAD_MS + 60_000)
    renew(region)
    with producer(region, 901, clock=clock) as made:
        made.emit("eu/skew", FACT).result(30)
        renew(region)
        clock.ahead_ms = hour_ms
        for _ in range(2):
            with pytest.raises(Refusal, match=r"ClockSkew: .* 36\d\d s ahead") as caught:
                made.emit("eu/skew", FACT, event_id="skewed").result(30)
        assert (caught.value.code, "set this machine" in caught.value.hint) == ("clock_skew", True)
        clock.ahead_ms = 0
        made.emit("eu/skew", FACT, event_id="skewed").result(30)
        clock.ahead_ms = -hour_ms
        made.emit("eu/skew", FACT).result(30)  # stamps go on by their counter
    clock.ahead_ms = hour_ms
    renew(region, ago_ms=60_000)

    def refused() -> bool:
        renew(region)
        return opened.done()

    with ThreadPoolExecutor(1) as other:
        opened = other.submit(producer, region, 902, clock=clock)
        until(refused, 30, "it has seen who renews")
        with pytest.raises(Refusal, match="ClockSkew"):
            opened.result(0)
    facts = [f for f in region.facts("rewards") if f.envelope.epoch in (901, 902)]
    assert len([f for f in facts if f.envelope.aggregate_id == "eu/skew"]) == 3
    assert max(f.envelope.stamp for f in facts) < bound


def test_event_producer_is_not_judged_where_nobody_renews(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock of long ago says that nobody leads, not that this one is wrong."""
    monkeypatch.setattr(stampclock, "BACK", 1)
    renew(region, ago_ms=2 * MAX_AHEAD_MS)
    with producer(region, 903) as made:
        made.emit("eu/alone", FACT).result(30)
