"""A primary that dies or sleeps at the worst moment: everything once, and one writer an epoch."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Producer

from everlode.adapters.kafka import Record
from everlode.adapters.kafka_sender import Sender
from everlode.avro import schemas
from everlode.avro.cloudevents import event_headers
from everlode.avro.codec import MAX_COMMAND_BYTES, Codec, encode_fact, encode_request
from everlode.errors import Refusal
from everlode.events import commands as c
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import CommandHeader, Event, Fact
from everlode.events.catalogue import COMMANDS, EVENTS, STATES
from everlode.events.health import ForeignWrite
from everlode.events.miners import StakeDeposited
from everlode.events.rewards import RewardPaid
from everlode.events.schemas import SchemaPublished
from everlode.events.tasks import TaskCancelled
from everlode.events.validations import FraudCleared
from everlode.sdk import EventProducer, MiningClient
from everlode.topics.names import command_topic, dead_letter_topic, fact_topic, reply_topic
from everlode.topics.partition import partition_of
from tests.support.facts.accepted import owe, suspected
from tests.support.world.region import PARTITIONS, Region, until

pytestmark = pytest.mark.timeout(180)
DYING = "tests.support.processes.dying_node"


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    with Region(tmp_path_factory.mktemp("region")) as made:
        yield made


def register(client: MiningClient) -> None:
    client.register_miner(["inference"], endpoint="127.0.0.1:1")


def deposits(region: Region, miner: str) -> list[Fact]:
    return [
        fact
        for fact in region.facts("miners")
        if isinstance(fact.data, StakeDeposited) and fact.envelope.aggregate_id == miner
    ]


def seqs_are_dense(region: Region, component: str) -> bool:
    """True when each partition's `seq` goes up by one, from one."""
    facts = region.facts(component)
    for partition in range(PARTITIONS):
        found = [
            f.envelope.seq
            for f in facts
            if f.envelope.event_id.startswith(f"{fact_topic('eu.1', component)}/{partition}/")
            or (f.envelope.version and partition_of(f.envelope.aggregate_id, PARTITIONS)
                == partition)
        ]  # fmt: skip
        if found != list(range(1, len(found) + 1)):
            return False
    return True


@pytest.mark.parametrize("stage", ["staged", "written", "committed", "answered"])
def test_primary_killed_at_a_stage_its_successor_answers_and_nothing_happens_twice(
    region: Region, stage: str
) -> None:
    first, second = f"eu-mr-{stage}-1", f"eu-mr-{stage}-2"
    dying = region.leader("miner-registry", "miners", first, module=DYING, die=stage)
    heir = region.node("miner-registry", second)
    heir.ready()
    with region.client(f"m-{stage}") as client:
        register(client)
        waiting = client.send(
            f"eu/m-{stage}", c.DepositStake(amount_micro=7), command_id=f"c-{stage}"
        )
        until(lambda: dying.process.poll() is not None, 20, "it dies")
        assert dying.process.returncode == -signal.SIGKILL
        if stage == "answered":
            assert waiting.result(20).outcome == "done"
        else:
            assert not waiting.done()
        epoch = region.assign("miners", second)
        heir.leads(epoch)
        answer = waiting.result(60)
        assert (answer.outcome in {"done", "repeated"}, len(answer.facts)) == (True, 1)
        again = client.call(
            f"eu/m-{stage}", c.DepositStake(amount_micro=7), command_id=f"c-{stage}"
        )
        assert (again.outcome, again.facts) == ("repeated", answer.facts)
    (fact,) = deposits(region, f"eu/m-{stage}")
    assert fact.envelope.event_id == answer.facts[0].event_id
    assert seqs_are_dense(region, "miners")
    heir.kill()


def test_schemas_of_all_that_is_written_travel_with_the_logs(region: Region) -> None:
    """A primary has led: who knows none of our schemas can learn each of them."""
    codec = Codec()
    messages = [*EVENTS, *COMMANDS, "CommandAnswered", *(cls.__name__ for cls in STATES.values())]

    def published() -> set[str]:
        found = [codec.decode_fact(raw.value).data for raw in region.records("eu.1.schemas", 1)]
        for data in found:
            assert isinstance(data, SchemaPublished)
            assert codec.learn(data.document).hex() == data.fingerprint
        return {d.fingerprint for d in found if isinstance(d, SchemaPublished)}

    wanted = {schemas.fingerprint(name).hex() for name in messages}
    until(lambda: published() >= wanted, 20, "all schemas are published")


def test_payment_system_that_fails_is_silent_and_answers_again_pays_once(region: Region) -> None:
    node = region.leader("reward-distributor", "rewards", "eu-rd-1", module=DYING, die="sink")

    def booked() -> list[Fact]:
        return [f for f in region.facts("rewards") if isinstance(f.data, RewardPaid)]

    with EventProducer(region.endpoints, "eu", "validations", epoch=1) as producer:
        assert owe(producer, "eu/t") == "eu/t|m"
    until(lambda: booked() != [], 60, "it is booked")
    assert node.reports("Note", remark="asked to pay eu/t|m, time 3")
    lines = (region.folder / "stack" / "payouts" / "payouts-eu.jsonl").read_text().splitlines()
    left = [x for x in map(json.loads, lines) if "key" in x]
    assert [(x["key"], x["amount_micro"]) for x in left] == [("eu/t|m", 1000)]
    (paid,) = booked()
    assert paid.envelope.aggregate_id == "eu/t|m"
    assert isinstance(paid.data, RewardPaid)
    assert paid.data.payout_ref == left[0]["ref"]
    node.kill()


def test_reward_that_is_suspected_and_cleared_in_one_batch_is_paid(region: Region) -> None:
    """It waits for the payment system meanwhile; what clears it must see what held it."""
    node = region.leader("reward-distributor", "rewards", "eu-rd-2", module=DYING, die="sink")
    said: list[Event] = [
        suspected("eu/held"),
        FraudCleared(rule="copied-solution", suspects=("m",), decided_by="x", reason="r"),
    ]
    with EventProducer(region.endpoints, "eu", "validations", epoch=1) as producer:
        owe(producer, "eu/held")
        node.await_entry("Note", remark="asked to pay eu/held|m, time 1")
        for waiting in [producer.emit("eu/case-held", data) for data in said]:
            waiting.result(30)

    def story() -> list[str]:
        mine = [f for f in region.facts("rewards") if f.envelope.aggregate_id == "eu/held|m"]
        return [type(f.data).__name__ for f in mine]

    until(lambda: "RewardPaid" in story(), 60, "it is paid")
    assert story() == ["RewardCalculated", "RewardWithheld", "RewardReleased", "RewardPaid"]
    node.kill()


def test_primary_stopped_before_a_payment_and_woken_after_its_failover_pays_nothing(
    region: Region,
) -> None:
    """Its successor has asked whether that payout has left, and holds the reward back."""
    old = region.leader("reward-distributor", "rewards", "eu-rd-3", module=DYING, die="unpaid")
    heir = region.node("reward-distributor", "eu-rd-4")
    heir.ready()
    with EventProducer(region.endpoints, "eu", "validations", epoch=1) as producer:
        owe(producer, "eu/woken")
        old.await_entry("Note", remark="about to pay eu/woken|m")
        producer.emit("eu/case-woken", suspected("eu/woken")).result(30)
        heir.leads(region.assign("rewards", "eu-rd-4"))

    def story() -> list[str]:
        mine = [f for f in region.facts("rewards") if f.envelope.aggregate_id == "eu/woken|m"]
        return [type(f.data).__name__ for f in mine]

    until(lambda: "RewardWithheld" in story(), 60, "the successor holds it back")
    old.signal(signal.SIGCONT)
    old.await_entry("Note", remark="goes on to pay eu/woken|m")
    old.await_entry("FencedOutOf")
    journal = (region.folder / "stack" / "payouts" / "payouts-eu.jsonl").read_text()
    assert "eu/woken|m" not in journal
    assert story() == ["RewardCalculated", "RewardWithheld"]
    for node in (old, heir):
        node.kill()


@pytest.mark.parametrize("program", ["honest", "stubborn"])
def test_woken_old_primary_has_no_effect(region: Region, program: str) -> None:
    first, second = f"eu-mr-{program}-1", f"eu-mr-{program}-2"
    old = (
        region.leader("miner-registry", "miners", first)
        if program == "honest"
        else region.leader("miner-registry", "miners", first, module=DYING, die="stubborn")
    )
    heir = region.node("miner-registry", second)
    heir.ready()
    miner = f"eu/m-{program}"
    with region.client(miner) as client:
        register(client)
        old.signal(signal.SIGSTOP)
        waiting = client.send(miner, c.DepositStake(amount_micro=1))
        epoch = region.assign("miners", second)
        heir.leads(epoch)
        assert waiting.result(60).node_id == second
        old.signal(signal.SIGCONT)
        old.await_entry("FencedOutOf" if program == "stubborn" else "SteppedDown", epoch=epoch - 1)
        assert client.call(miner, c.DepositStake(amount_micro=1)).node_id == second
    time.sleep(1)
    codec = Codec()
    epochs: dict[int, list[int]] = {p: [] for p in range(PARTITIONS)}
    openers: dict[int, set[str]] = {}
    for raw in region.records("eu.1.miners"):
        fact = codec.decode_fact(raw.value)
        epochs[raw.partition].append(fact.envelope.epoch)
        if isinstance(fact.data, EpochOpened):
            openers.setdefault(fact.envelope.epoch, set()).add(fact.data.node_id)
    for found in epochs.values():
        assert found == sorted(found)  # nothing of an old epoch after the fence
        assert found[-1] == epoch
    assert all(len(names) == 1 for names in openers.values())  # two_primaries_in_epoch
    old.kill()
    heir.kill()


def test_commands_answered_once_however_often_they_are_sent(region: Region) -> None:
    node = region.leader("miner-registry", "miners", "eu-mr-often")
    with region.client("m-often") as client, region.client("other") as other:
        register(client)
        deposit = c.DepositStake(amount_micro=5)
        futures = [client.send("eu/m-often", deposit, command_id="once") for _ in range(20)]
        futures += [other.send("eu/m-often", deposit, command_id="once")]
        assert {f.result(30).facts[0].event_id for f in futures} == {
            deposits(region, "eu/m-often")[0].envelope.event_id
        }
        with pytest.raises(Refusal) as refused:
            client.call("nobody", deposit)
        assert refused.value.code == "no_miner"
        assert client.call("eu/m-often", c.DepositStake(amount_micro=5)).outcome == "done"
    with region.client("a|b") as unnamed:
        with pytest.raises(Refusal) as refused:
            register(unnamed)
        assert (refused.value.code, bool(refused.value.hint)) == ("bad_name", True)
    assert len(deposits(region, "eu/m-often")) == 2
    node.kill()


def test_refusals_are_answered_though_the_broker_stands_still_for_a_while(region: Region) -> None:
    """Refusals have no fact by which they could be found again. A commit whose outcome the node did
    not hear of may have succeeded: then the client asks again for what that one turn refused.
    """
    node = region.leader("miner-registry", "miners", "eu-mr-still")
    topic = command_topic("eu", "miners")
    sender = Producer({"bootstrap.servers": region.bootstrap, "enable.idempotence": True})
    sent = [f"still-{n}" for n in range(300)]

    def ask(command_id: str) -> None:
        header = CommandHeader(
            command_id=command_id, aggregate_id="nobody", issued_by="t", reply_to="still",
            issued_at=datetime.now(UTC).replace(microsecond=0), correlation_id="c",
        )  # fmt: skip
        value = encode_request(header, c.DepositStake(amount_micro=5))
        place = partition_of("nobody", PARTITIONS)
        sender.produce(topic, value, "nobody", partition=place)
        sender.poll(0.005)

    for n, command_id in enumerate(sent):
        ask(command_id)
        if n == 150:  # some are read and not answered yet
            region.stack.pause("eu/kafka")
    time.sleep(12)
    region.stack.resume("eu/kafka")
    assert sender.flush(30) == 0

    def answered() -> set[str]:
        replies = [r for r in region.records(reply_topic("eu")) if r.key == b"still"]
        return {Codec().decode_answer(r.value).command_id for r in replies}

    until(lambda: sent[-1] in answered(), 60, "the last one is answered, and those before it")
    found = answered()
    left = [command_id for command_id in sent if command_id not in found]
    first = sent.index(left[0]) if left else 0
    assert left == sent[first : first + len(left)], "more than one turn's are missing"
    assert first <= 150, "of those that were read before it stood still"
    for command_id in left:
        ask(command_id)
    until(lambda: answered() == set(sent), 60, "each is answered")
    node.kill()


def test_task_is_ended_at_its_deadline_by_how_far_the_commands_were_read(region: Region) -> None:
    """Behind the last command stands the mark of a stranger's transaction: nobody hands it out."""
    node = region.leader("task-manager", "tasks", "eu-tm-due")
    with region.client("c-due") as client:
        client.submit_task("t-due", "inference", "u", "a" * 64, 1, deadline=timedelta(seconds=3))
    settings = {"bootstrap.servers": region.bootstrap, "transactional.id": "stranger-due"}
    stranger = Producer(settings)
    stranger.init_transactions(30)
    stranger.begin_transaction()
    for partition in range(PARTITIONS):
        stranger.produce(command_topic("eu", "tasks"), b"any", b"eu/t-due", partition=partition)
    stranger.flush(30)
    stranger.abort_transaction(30)

    def story() -> list[Event]:
        return [f.data for f in region.facts("tasks") if f.envelope.aggregate_id == "eu/t-due"]

    until(lambda: TaskCancelled(reason="deadline_passed") in story(), 30, "it is ended")
    node.kill()


def test_poison_goes_to_the_dead_letters_and_the_stream_goes_on(region: Region) -> None:
    node = region.leader("miner-registry", "miners", "eu-mr-poison")
    topic = command_topic("eu", "miners")
    poison = {
        b"random": b"\x01\x02\x03 not avro",
        b"cut": b"\xc3\x01" + bytes(8),
        b"empty": b"",
        b"large": b"\xc3\x01" + bytes(MAX_COMMAND_BYTES),
    }
    raw = Producer({"bootstrap.servers": region.bootstrap, "acks": "all"})
    with region.client("m-poison") as client:
        register(client)
        before = len(region.records(dead_letter_topic("primary", topic), 1))
        for key, value in poison.items():
            raw.produce(topic, value, key, partition=0)
        raw.produce(topic, b"null key", None, partition=1)
        assert raw.flush(20) == 0
        assert client.call("eu/m-poison", c.DepositStake(amount_micro=1)).outcome == "done"
        until(
            lambda: len(region.records(dead_letter_topic("primary", topic), 1)) == before + 5,
            20,
            "five dead letters",
        )
    letters = region.records(dead_letter_topic("primary", topic), 1)[before:]
    for letter in letters:
        headers = dict(letter.headers)
        assert headers["dlt-topic"] == topic.encode()
        assert {"dlt-partition", "dlt-offset", "dlt-code", "dlt-message"} <= set(headers)
        assert (headers["dlt-code"] == b"too_large") == (letter.key == b"large")
    assert sorted(x.value or b"" for x in letters) == sorted([*poison.values(), b"null key"])
    node.kill()


def test_foreign_write_stops_the_primary_which_says_so(region: Region) -> None:
    node = region.leader("miner-registry", "miners", "eu-mr-foreign")
    with region.client("m-foreign") as client:
        register(client)
    last = next(f for f in reversed(region.facts("miners")) if f.envelope.version)
    forged = last.envelope.model_copy(update={"event_id": "forged", "version": 99})
    where = partition_of(forged.aggregate_id, PARTITIONS)
    sender = Sender(region.bootstrap)
    data = StakeDeposited(amount_micro=10**9)
    headers = event_headers(forged, "StakeDeposited")
    body = encode_fact(forged, data)
    sender.send(Record(fact_topic("eu.1", "miners"), where, forged.aggregate_id, body, headers))
    assert sender.flush(10) == 0
    assert node.process.wait(30) == 13
    assert node.reports("ProcessFailed", code="foreign_write")
    told = [Codec().decode_fact(r.value) for r in region.records(fact_topic("eu.1", "health"), 1)]
    [(envelope, found)] = [f for f in told if isinstance(f.data, ForeignWrite)]
    damaged = next(r for r in region.records(fact_topic("eu.1", "miners")) if r.value == body)
    assert envelope.event_id == f"foreign/eu.1.miners/{where}@{damaged.offset}"
    assert found == ForeignWrite(
        topic="eu.1.miners", partition=where, foreign_offset=damaged.offset,
        foreign_key=forged.aggregate_id, foreign_event_id="forged",
        scope_name="miner-registry/eu", held_epoch=last.envelope.epoch,
    )  # fmt: skip


def test_who_leads_writes_barriers_to_every_partition(region: Region) -> None:
    """The last test here: with a coordinator the region decides for itself."""
    manager = region.leader("task-manager", "tasks", "eu-tm-b")
    coordinator = region.coordinator("eu-co-b")
    coordinator.ready()
    codec = Codec()

    def least(component: str, writer: str) -> int:
        found = Counter(
            raw.partition
            for raw in region.records(fact_topic("eu.1", component))
            if isinstance(data := codec.decode_fact(raw.value).data, Barrier)
            if data.writer_id == writer
        )
        return min(found[partition] for partition in range(PARTITIONS))

    until(lambda: least("tasks", "eu-tm-b") >= 3, 30, "barriers of a primary")
    until(lambda: least("heartbeats", "eu-co-b") >= 3, 30, "barriers of a coordinator")
    coordinator.kill()
    manager.kill()
