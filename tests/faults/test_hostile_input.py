"""Whatever strangers write, no process ends, each is answered, and what was acknowledged is kept.

A real region with all its processes, PostgreSQL and an object store; commands and heartbeats as in
tests/support/facts/hostile.py. A record that does harm is shown whole, in hex. `LONG_TESTS` sends
twenty times as many.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Producer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from everlode.adapters.kafka import Raw, Reader
from everlode.adapters.postgres_read import Generation
from everlode.avro.codec import Codec, encode_fact, encode_request
from everlode.backup.keys import KeyRing
from everlode.cli.recover import HELD
from everlode.events import commands as c
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import CommandAnswered, CommandHeader, Envelope
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.heartbeats import MinerBeat
from everlode.events.states import State
from everlode.projection.tables import COMPONENTS
from everlode.state.dispatch import component_of_state, evolve_fact
from everlode.topics.names import command_topic, fact_topic, reply_topic
from everlode.topics.partition import partition_of
from tests.support.facts.codes import documented
from tests.support.facts.hostile import (
    MINERS,
    REPLY_TO,
    TASKS,
    Hostile,
    every_extreme,
    every_extreme_heartbeat,
    hostile_commands,
    hostile_heartbeats,
    now_ms,
)
from tests.support.facts.state_commands import register, submit
from tests.support.world.region import PARTITIONS, Region, until

LONG = bool(os.environ.get("LONG_TESTS"))
pytestmark = pytest.mark.timeout(1800 if LONG else 280)
RECORDS = 600 * (20 if LONG else 1)
AT_ONCE = 100
"""Commands that wait for their answers at a time: it is about what they hold, not how many come."""
BEATS_AT_ONCE = 650
NODES = {
    "tasks": "task-manager", "miners": "miner-registry", "validations": "validator",
    "rewards": "reward-distributor",
}  # fmt: skip
CODES = documented()
CODEC = Codec()


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    with Region(tmp_path_factory.mktemp("hostile"), s3="auto") as made:
        KeyRing(made.folder / "keys").create()
        started = [made.coordinator("eu-co-1")]
        started += [made.node(kind, f"eu-{name}-1") for name, kind in NODES.items()]
        started += [made.process(noun, f"eu-{noun}-1") for noun in ("projector", "detector")]
        for node in started:
            node.ready()
        for node in started[1:5]:
            node.leads(1)
        prepare(made)
        yield made


def this_second() -> datetime:
    return datetime.fromtimestamp(now_ms() // 1000, UTC)


def prepare(region: Region) -> None:
    """Miners with stake, and tasks, so that commands find something."""
    with region.client("prepare") as client:
        for miner in MINERS:
            client.call(miner, register(endpoint="127.0.0.1:1"))
            client.call(miner, c.DepositStake(amount_micro=10**9))
        for task in TASKS[:6]:
            deadline = this_second() + timedelta(days=1)
            client.call(task, submit(deadline_at=deadline))


def drawn(of: Callable[[int], st.SearchStrategy[Hostile]], count: int) -> list[Hostile]:
    """Records; the same ones at each run, but for the long one."""
    found: list[Hostile] = []

    @settings(
        max_examples=count, database=None, derandomize=not LONG, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def collect(data: st.DataObject) -> None:
        found.append(data.draw(of(len(found))))

    collect()
    return found


def send(region: Region, records: Sequence[tuple[str, int, Hostile]]) -> None:
    """Append records, (topic, partition) each, and wait until they are there."""
    producer = Producer(  # idempotent: sent again by itself, no mark overtakes what is before it
        {"bootstrap.servers": region.bootstrap, "enable.idempotence": True, "log_level": 0}
    )
    for topic, partition, record in records:
        producer.produce(
            topic, key=record.key, value=record.value, partition=partition, headers=record.headers
        )
    assert producer.flush(30) == 0


def marks(name: str) -> list[tuple[str, int, Hostile]]:
    """A lawful command at the end of each partition: once it is answered, all before it are."""
    found = []
    for component, command in {
        "tasks": c.CancelTask(reason="r"), "miners": c.SuspendMiner(reason="r"),
        "validations": c.DeferValidation(reason="r", deadline_at=this_second()),
        "rewards": c.WithholdReward(case_id="c", reason="r"),
    }.items():  # fmt: skip
        for partition in range(PARTITIONS):
            key = next(
                k for n in range(99) if partition_of(k := f"mark-{n}", PARTITIONS) == partition
            )
            header = CommandHeader(
                command_id=name, aggregate_id=key, issued_by="t", reply_to=REPLY_TO,
                issued_at=this_second(), correlation_id="c",
            )  # fmt: skip
            value = encode_request(header, command)
            record = Hostile(
                component, key.encode(), value, [], (key, header.command_id), True, "mark"
            )
            found.append((command_topic("eu", component), partition, record))
    return found


class Answers:
    """What came on the replies for us."""

    def __init__(self, region: Region) -> None:
        topic = reply_topic("eu")
        self.found: list[CommandAnswered] = []
        self._count: Counter[tuple[str, str]] = Counter()
        self._reader = Reader(region.bootstrap, "answers", wait_ms=50)
        for batch in self._reader.to_ends(
            {(topic, p): 0 for p in range(PARTITIONS)}, 30, go_on=True
        ):
            self._note(batch)

    def read(self) -> Counter[tuple[str, str]]:
        """(aggregate, command id) → answers, all so far."""
        self._note(self._reader.batch(5000, 0.0))
        return self._count.copy()

    def _note(self, batch: Sequence[Raw]) -> None:
        new = [CODEC.decode_answer(r.value) for r in batch if r.key == REPLY_TO.encode()]
        self.found += new
        self._count.update((a.aggregate_id, a.command_id) for a in new)

    def close(self) -> None:
        self._reader.close()


def alive(region: Region, sent: Sequence[Any]) -> None:
    """Fails when a process has ended, with what it reported and what had been sent."""
    ended = [node for node in region.nodes if node.process.poll() is not None]
    if ended:
        shown = "\n".join(f"{r.kind}: {r.key!r} {(r.value or b'')[:4000].hex()}" for *_, r in sent)
        pytest.fail(f"{ended[0].log.read_text()[-6000:]}\nafter one of:\n{shown}")


def carried_out(region: Region, records: Sequence[Hostile]) -> Counter[str]:
    """Send commands, and check the answers; outcome or code → how many."""
    with closing(Answers(region)) as answers:
        return answered(region, records, answers)


def answered(region: Region, records: Sequence[Hostile], answers: Answers) -> Counter[str]:
    """See `carried_out`."""
    expected, by_chance = Counter[Any](), Counter[Any]()
    before = answers.read()
    for start in range(0, len(records), AT_ONCE):
        chosen = records[start : start + AT_ONCE]
        batch = [
            (command_topic("eu", r.component), partition_of(r.asked[0], PARTITIONS), r)
            for r in chosen
        ]
        last = marks(f"mark-{chosen[0].asked[1]}-{start}")
        send(region, [*batch, *last])
        expected += Counter(r.asked for *_, r in (*batch, *last) if r.answered)
        by_chance += Counter(r.asked for *_, r in batch if r.answered is None)
        ends = Counter(r.asked for *_, r in last)

        def read(ends: Counter[Any] = ends, batch: Any = batch) -> bool:
            alive(region, batch)
            return ends <= answers.read()

        until(read, 60, "the last command of each partition is answered")
        found = answers.read() - before
        silent = expected - found
        shown = [r for *_, r in batch if r.asked in silent]
        assert not silent, f"not answered: {shown}"
    # one that was asked may be answered again, when its primary went on after a stumble
    assert not found.keys() - expected.keys() - by_chance.keys(), "nobody had asked for these"
    for answer in answers.found:
        assert answer.outcome in ("done", "repeated", "refused")
        if answer.outcome == "refused":
            assert answer.code in CODES, answer
            assert answer.message
        else:
            assert (answer.code, answer.message) == ("", ""), answer
    assert_kept(region, answers.found)
    alive(region, [])
    return Counter(a.code or a.outcome for a in answers.found)


def test_every_extreme_of_every_field_is_answered_and_stops_nobody(region: Region) -> None:
    outcomes = carried_out(region, list(every_extreme()))
    assert outcomes["done"] > 150, f"most were refused: nothing was tried: {outcomes}"


def test_hostile_commands_are_each_answered_and_stop_nobody(region: Region) -> None:
    outcomes = carried_out(region, drawn(lambda n: hostile_commands(n), RECORDS))
    assert len(outcomes) > 20, f"few of the answers were had: {outcomes}"


def folded(region: Region) -> dict[tuple[str, str], State | None]:
    """(component, key) → what its facts in the log come to."""
    states: dict[tuple[str, str], State | None] = {}
    for component in FACT_COMPONENTS:
        for raw in region.records(fact_topic("eu.1", component)):
            fact = CODEC.decode_fact(raw.value)
            if isinstance(fact.data, Barrier | EpochOpened):
                continue
            key = component_of_state(type(fact.data)), fact.envelope.aggregate_id
            states[key] = evolve_fact(states.get(key), fact, raw.partition)
    return states


def rows(region: Region, generation: int = 1) -> dict[tuple[str, str], State | None]:
    """(component, key) → state, of a generation."""
    conninfo = region.endpoints.regions["eu"].postgres_conninfo()
    with closing(Generation(conninfo, generation)) as db:
        return {
            (component, key): None if doc is None else CODEC.decode_state(bytes(doc))
            for component in COMPONENTS
            for key, doc in db.query(f"select key, doc from {{g}}.{component}")
        }


def assert_kept(region: Region, answers: list[CommandAnswered]) -> None:
    """Every fact of an answer is in the log where the answer says, and in the projection."""
    logs = {c: region.records(fact_topic("eu.1", c)) for c in FACT_COMPONENTS}
    places = {(r.topic, r.partition, r.offset): r for log in logs.values() for r in log}
    for ref in (ref for answer in answers for ref in answer.facts):
        fact = CODEC.decode_fact(places[ref.topic, ref.partition, ref.offset].value)
        assert fact.envelope.event_id == ref.event_id
    until(lambda: rows(region) == folded(region), 60, "the projection is the fold of the log")


def lawful_beat(name: str, number: int) -> Hostile:
    envelope = Envelope(
        event_id=f"lawful-{number}", aggregate_id=name, version=0, origin="eu.1", scope="", epoch=0,
        seq=number, stamp=now_ms() << 16, correlation_id="c",
        occurred_at=this_second(),
    )  # fmt: skip
    value = encode_fact(envelope, MinerBeat(running=(), work_done=number, interval_ms=15_000))
    return Hostile("heartbeats", name.encode(), value, [], ("", ""), None, "lawful")


def beating(region: Region) -> set[str]:
    """Miners whose heartbeats the projection has noted."""
    conninfo = region.endpoints.regions["eu"].postgres_conninfo()
    with closing(Generation.current(conninfo)) as db:
        return {name for (name,) in db.query("select miner_id from {g}.miner_beats")}


def left_out(region: Region) -> set[bytes | None]:
    """Keys of what the detector could not take."""
    return {raw.key for raw in region.records("dlt.detector.eu.1.heartbeats", 1)}


def test_every_extreme_of_a_heartbeat_and_hostile_ones_stop_nobody_and_the_next_are_noted(
    region: Region,
) -> None:
    records = [*every_extreme_heartbeat()]
    assert len(records) > 500, "nothing was tried"
    records += drawn(lambda n: hostile_heartbeats(n), RECORDS // 2)
    topic = fact_topic("eu.1", "heartbeats")
    for start in range(0, len(records), BEATS_AT_ONCE):
        some = records[start : start + BEATS_AT_ONCE]
        batch = [(topic, n % PARTITIONS, r) for n, r in enumerate(some)]
        names = {f"lawful-{start}-{p}" for p in range(PARTITIONS)}
        last = [(topic, int(name[-1]), lawful_beat(name, start + 1)) for name in names]
        ends = [r._replace(key=b"end-" + (r.key or b""), value=b"end") for *_, r in last]
        keys = {r.key for r in ends}
        send(region, [*batch, *last, *((topic, p, r) for p, r in enumerate(ends))])

        def noted(names: set[str] = names, keys: Any = keys, batch: Any = batch) -> bool:
            alive(region, batch)
            return names <= beating(region) and keys <= left_out(region)

        until(noted, 60, "projector and detector have read the last heartbeats of each partition")
    alive(region, [])


def everlode(region: Region, *words: str) -> subprocess.CompletedProcess[str]:
    place = ("--dir", str(region.folder / "stack"), "--keys", str(region.folder / "keys"))
    return subprocess.run(
        [sys.executable, "-m", "everlode.cli.main", *words, *place, "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_hostile_input_is_backed_up_and_recovered(region: Region) -> None:
    """After the others: the projection that they left comes back equal from the store."""
    made = everlode(region, "backup", "create", "--region", "eu")
    assert made.returncode == 0, made.stdout + made.stderr
    alive(region, [])
    for node in region.nodes:
        node.kill()
    before = rows(region)
    done = everlode(region, "recover", "run", "--region", "eu")
    # a stranger may name what there is not: then the gate says so, and holds the switch
    reasons = [r for part in json.loads(done.stdout)["components"] for r in part["reasons"]]
    assert done.returncode == (HELD if reasons else 0), done.stdout + done.stderr
    assert all("is unknown" in reason for reason in reasons), reasons
    assert rows(region, 2) == before == folded(region)
