"""Projectors as processes: killed at any moment of their work, and over rebalances."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from confluent_kafka import Producer

from everlode.adapters.kafka_control import ControlLog
from everlode.adapters.kafka_group import group_members
from everlode.avro.codec import Codec
from everlode.errors import FencedOut, Unavailable
from everlode.events.base import Fact
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.control import GenerationSwitched
from everlode.events.heartbeats import MinerBeat
from everlode.topics.names import fact_topic
from everlode.topics.partition import partition_of
from tests.support.facts.decided import decide
from tests.support.processes.forked import CLI
from tests.support.world.backed import STORY_EPOCHS, STORY_SCOPES, story
from tests.support.world.projected import TOPOLOGY, Lab
from tests.support.world.region import Node, until

pytestmark = pytest.mark.timeout(240)


class Projectors:
    """A lab with projector processes."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.nodes: list[Node] = []
        self.versions: dict[tuple[str, str], int] = {}
        """(topic's component, key) → last version written."""

    def start(self, node_id: str, **env: str) -> Node:
        arguments = [
            "projector", "run", "--region", "eu", "--node-id", node_id,
            "--dir", str(self.lab.folder / "stack"),
        ]  # fmt: skip
        log = self.lab.folder / f"{node_id}-{len(self.nodes)}.log"
        self.nodes.append(Node(CLI, arguments, log, env))
        return self.nodes[-1]

    def close(self) -> None:
        for node in self.nodes:
            if node.process.poll() is None:
                node.signal(signal.SIGCONT)
                node.kill()

    def write(self, facts: list[tuple[str, Fact]], name: str) -> None:
        """Append facts under new names."""
        for component, fact in facts:
            key = f"{fact.envelope.aggregate_id}~{name}"
            partition = partition_of(key, TOPOLOGY.partitions)
            _, value = self.lab.fact(
                component, fact, partition=partition, aggregate_id=key,
                event_id=f"{fact.envelope.event_id}~{name}",
            )  # fmt: skip
            self.lab.put(fact_topic("eu.1", component), key, value, partition)
            self.versions[component, key] = fact.envelope.version
        self.lab.flush()

    def found(self) -> dict[tuple[str, str], int]:
        """(component, key) → version, as the rows have it."""
        rows: dict[tuple[str, str], int] = {}
        for component in (*FACT_COMPONENTS, "fraud"):
            topic = "validations" if component == "fraud" else component
            for key, version in self.lab.query(f"select key, version from {{g}}.{component}"):
                rows[topic, key] = version
        return rows

    def done(self) -> bool:
        return self.found() == self.versions

    def applied(self) -> int:
        return int(self.lab.query("select coalesce(sum(seq), 0) from {g}.positions")[0][0])

    def state_versions(self) -> dict[tuple[str, str], list[int]]:
        """(component, key) → versions on the state topic, in log order."""
        codec = Codec()
        found: dict[tuple[str, str], list[int]] = {}
        for component in (*FACT_COMPONENTS, "fraud"):
            topic = "validations" if component == "fraud" else component
            for raw in self.lab.published(component):
                assert raw.key is not None
                state = codec.decode_state(raw.value)
                found.setdefault((topic, raw.key.decode()), []).append(state.version)
        return found


@pytest.fixture
def projectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Projectors]:
    with Lab(tmp_path_factory.mktemp("projectors"), control=True) as lab:
        made = Projectors(lab)
        assert lab.endpoints.control_bootstrap is not None
        for scope in STORY_SCOPES:
            decide(lab.endpoints.control_bootstrap, scope, STORY_EPOCHS)
        yield made
        made.close()


def check_states(projectors: Projectors) -> None:
    """No state topic ever went back, and each key ends at its row, which comes first."""
    found: dict[tuple[str, str], list[int]] = {}

    def published() -> bool:
        found.update(projectors.state_versions())
        return {key: versions[-1] for key, versions in found.items()} == projectors.found()

    until(published, 30, "the state of every row is published")
    for key, versions in found.items():
        assert versions == sorted(versions), (key, versions)


def test_projector_killed_at_any_moment_of_bulk_and_live_loses_nothing(
    projectors: Projectors,
) -> None:
    facts = story(3, 25)
    for copy in range(10):
        projectors.write(facts, str(copy))
    written = sum(projectors.lab.seqs.values())
    for share in (0, 3):
        node = projectors.start("eu-proj-1")
        until(
            lambda: projectors.applied() > written * share // 10,  # noqa: B023
            60,
            "the projector works",
        )
        node.kill()
    node = projectors.start("eu-proj-1")
    node.ready(60)
    until(projectors.done, 60, "all rows are there")
    before = projectors.applied()
    for copy in range(10, 13):
        projectors.write(facts, str(copy))
    until(lambda: projectors.applied() > before, 60, "live facts come in")
    node.kill()
    projectors.start("eu-proj-1").ready(60)
    until(projectors.done, 60, "all rows are there after the last kill")
    assert projectors.lab.query("select * from {g}.problems") == []
    check_states(projectors)


def owners(projectors: Projectors) -> dict[int, str]:
    """Partition number → node that owns it."""
    rows = projectors.lab.query(
        "select distinct part, split_part(owner, '/', 1) from {g}.positions"
    )
    assert len(rows) == TOPOLOGY.partitions, rows
    return dict(rows)


def test_partition_lost_and_given_back_is_taken_over_again(projectors: Projectors) -> None:
    """Two projectors; the second comes, leaves, comes again, sleeps over a session, is woken."""
    first = projectors.start("eu-proj-1")
    first.ready(60)

    def work(when: str) -> None:
        name = when.replace(" ", "-")
        projectors.write(story(5, 3), name)
        until(projectors.done, 60, f"all rows are there {when}")

    def shared(second: str) -> None:
        both = {"eu-proj-1", second}
        until(lambda: set(owners(projectors).values()) == both, 60, f"{both} share the work")

    def alone() -> None:
        until(lambda: set(owners(projectors).values()) == {"eu-proj-1"}, 60, "the first has all")

    work("alone")
    second = projectors.start("eu-proj-2")
    shared("eu-proj-2")
    work("shared")
    second.signal(signal.SIGTERM)
    alone()
    work("after the second left")
    second = projectors.start("eu-proj-3")
    shared("eu-proj-3")
    second.signal(signal.SIGSTOP)
    alone()
    work("while the second sleeps")
    second.signal(signal.SIGCONT)
    shared("eu-proj-3")
    work("after it was woken")
    assert first.process.poll() is None
    assert second.process.poll() is None
    assert projectors.lab.query("select * from {g}.problems") == []
    check_states(projectors)


def test_epoch_not_decided_parks_its_facts_until_it_is(projectors: Projectors) -> None:
    """The control log is behind: the fact waits, others go on, a restart forgets nothing."""
    projectors.start("eu-proj-1").ready(60)
    lab, (component, early) = projectors.lab, story(5, 3)[0]
    projectors.write(story(5, 3), "before")
    until(projectors.done, 60, "facts of decided epochs are in")
    ahead = early._replace(envelope=early.envelope.model_copy(update={"epoch": STORY_EPOCHS + 1}))
    before = dict(projectors.versions)
    projectors.write([(component, ahead)], "ahead")
    after, projectors.versions = projectors.versions, before
    until(lambda: lab.query("select kind from {g}.problems") == [("unknown_epoch",)], 30, "named")
    projectors.write(story(5, 3), "besides")
    until(projectors.done, 60, "the others go on")
    projectors.nodes[-1].kill()
    projectors.start("eu-proj-2").ready(60)
    assert lab.query("select count(*) from {g}.parked") == [(1,)]
    assert lab.endpoints.control_bootstrap is not None
    for scope in STORY_SCOPES:
        decide(lab.endpoints.control_bootstrap, scope, STORY_EPOCHS + 1)
    projectors.write(story(5, 3), "later")
    projectors.versions |= after
    until(projectors.done, 60, "the fact is folded once its epoch is decided")
    assert lab.query("select count(*) from {g}.parked") == [(0,)]
    check_states(projectors)


def submitted(client: str) -> tuple[str, Fact]:
    """A task's first fact, from a client of this name."""
    component, first = next(item for item in story(5, 3) if item[0] == "tasks")
    return component, first._replace(data=first.data.model_copy(update={"client_id": client}))


def test_bad_facts_stop_their_keys_alone_live_and_in_bulk(projectors: Projectors) -> None:
    lab, topic = projectors.lab, fact_topic("eu.1", "tasks")
    for name, last in (("live", False), ("bulk", True)):
        if not last:
            node = projectors.start(f"eu-proj-{name}")
            node.ready(60)
        before = dict(projectors.versions)
        projectors.write([submitted("a\0b")], f"bad-{name}")
        projectors.versions = before
        projectors.write(story(5, 3), f"beside-{name}")
        if last:
            node = projectors.start(f"eu-proj-{name}")
            node.ready(60)
        until(projectors.done, 60, f"the others go on, {name}")
        assert node.reports("RecordLeftOut", topic=topic)
        assert node.process.poll() is None
        node.kill()
    assert len(lab.dead("tasks")) == 2
    kinds = "select kind from {g}.problems where position('~bad-' in key) > 0"
    assert lab.query(kinds) == [("unapplied",)] * 2
    check_states(projectors)


def beat(lab: Lab, miner: str) -> tuple[str, bytes]:
    """Key and bytes of a miner's heartbeat."""
    data = MinerBeat(running=(), work_done=1, interval_ms=1000)
    head = submitted("c")[1].envelope
    return lab.fact("heartbeats", Fact(head, data), aggregate_id=miner, version=0)


def test_heartbeat_that_no_table_takes_and_an_open_transaction_hide_no_other_heartbeat(
    projectors: Projectors,
) -> None:
    lab, topic = projectors.lab, fact_topic("eu.1", "heartbeats")
    node = projectors.start("eu-proj-1")
    node.ready(60)
    with psycopg.connect(lab.conninfo, autocommit=True) as db:
        db.execute("alter table g1.miner_beats add check (miner_id <> 'bad')")
    stranger = Producer(
        {"bootstrap.servers": lab.bootstrap, "transactional.id": "stranger", "log_level": 0}
    )
    stranger.init_transactions(20)
    stranger.begin_transaction()
    stranger.produce(topic, key="nobody", value=b"not avro", partition=0)
    assert stranger.flush(20) == 0
    for miner in ("first", "bad", "last"):
        lab.put(topic, *beat(lab, miner))
    lab.flush()

    def beating() -> list[str]:
        return [name for (name,) in lab.query("select miner_id from {g}.miner_beats order by 1")]

    until(lambda: beating() == ["first", "last"], 30, "the others' heartbeats are noted")
    [letter] = lab.dead("heartbeats")
    assert letter.key == b"bad"
    assert dict(letter.headers)["dlt-code"] == b"unstorable"
    assert node.process.poll() is None
    stranger.abort_transaction(20)


def replace_generation(lab: Lab) -> None:
    """As a recovery does it at its end."""
    control = lab.endpoints.control_bootstrap
    assert control is not None
    with closing(ControlLog(control)) as log:
        switched = GenerationSwitched(region="eu", generation=2, operation_id="test")
        log.append("eu", switched, node_id="test")


def test_projector_of_a_generation_that_was_replaced_ends_and_says_so(
    projectors: Projectors,
) -> None:
    node = projectors.start("eu-proj-1")
    node.ready(60)
    replace_generation(projectors.lab)
    assert node.process.wait(60) == FencedOut.exit_code
    assert node.reports("ProcessFailed", code="generation_replaced")


def test_projector_that_begins_in_a_replaced_generation_says_so(projectors: Projectors) -> None:
    replace_generation(projectors.lab)
    node = projectors.start("eu-proj-1")
    assert node.process.wait(60) == FencedOut.exit_code
    assert node.reports("ProcessFailed", code="generation_replaced")


def test_projector_that_hangs_at_its_end_says_why_it_ends(projectors: Projectors) -> None:
    node = projectors.start("eu-proj-1")
    node.ready(60)
    bootstrap = projectors.lab.bootstrap
    # a member of the group, it waits for the answer to its leaving; Faust ends in time else
    until(lambda: group_members(bootstrap, "projector.eu.g1") == 1, 30, "it has joined")
    projectors.lab.stack.pause("eu/kafka")
    try:
        replace_generation(projectors.lab)
        assert node.process.wait(60) == FencedOut.exit_code
    finally:
        projectors.lab.stack.resume("eu/kafka")
    assert node.reports("StopHung")
    assert node.reports("ProcessFailed", code="generation_replaced")


def test_projector_that_stands_still_ends_names_the_place_and_another_goes_on(
    projectors: Projectors,
) -> None:
    node = projectors.start("eu-proj-1", EVERLODE_STALL_S="10")
    node.ready(60)
    facts = story(3, 4)
    projectors.write(facts, "first")
    until(projectors.done, 60, "it applies what it is handed out")
    with psycopg.connect(projectors.lab.conninfo) as foreign:
        foreign.execute("lock table g1.positions in access exclusive mode")
        projectors.write(facts, "second")
        assert node.process.wait(120) == Unavailable.exit_code
    assert node.reports("ProcessFailed", code="stalled")
    assert node.reports("ThreadStands")
    assert not projectors.done()
    projectors.start("eu-proj-1")
    until(projectors.done, 60, "another goes on from where it stood")
