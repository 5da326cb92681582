"""Wrong clocks, of a node, a region or all: they lead nothing, beat on, and work again when right.

On librdkafka's broker: agents of several regions with clocks that the test sets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer

from everlode.adapters.clock import instant
from everlode.adapters.kafka_control import ControlLog
from everlode.avro.codec import Codec
from everlode.events.control import ScopeAssigned
from everlode.events.health import ClockSkew
from everlode.membership.clockwatch import mono_ms
from everlode.sdk import Endpoints, Identity, NodeAgent
from everlode.settings.endpoints import RegionEndpoints
from everlode.topics import Topology
from everlode.views.skews import skews
from tests.support.facts.whole_topic import records
from tests.support.world.region import until

pytestmark = pytest.mark.timeout(120)
HOUR = 3_600_000
COMPONENTS = ("task-manager", "miner-registry", "rewards")
BOTH_WAYS = pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])


class SetClock:
    """A wall clock that is wrong by `ahead_ms`."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def wall_ms(self) -> int:
        """See Clock."""
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def event_now(self) -> datetime:
        """See Clock."""
        return instant(self.wall_ms())


class Member:
    """A node that was chosen for its scope."""

    def __init__(self, broker: str, region: str, component: str) -> None:
        self.clock = SetClock()
        self.region, self.name = region, f"{region}-{component}"
        self.scope = f"{component}/{region}"
        self.agent = NodeAgent(
            Identity(self.name, region, f"{region}.1", component), bootstrap=broker,
            control_bootstrap=broker, partitions=1, scopes=(self.scope,), clock=self.clock,
            beat_ms=50, renew_ms=200, fence_after_ms=1_000,
        )  # fmt: skip

    def leads(self) -> bool:
        return self.agent.leads(self.scope) == 1

    def judged_by(self) -> int:
        """How many others' clocks it knows, beyond the one that judges nobody."""
        return max(0, self.agent._clockwatch._clocks.others(mono_ms()) - 1)


class Network:
    """Three nodes a region, all leading."""

    def __init__(self, broker: str, regions: str) -> None:
        self.broker = broker
        self.members = [Member(broker, r, c) for r in regions.split() for c in COMPONENTS]
        with closing(ControlLog(broker)) as log:
            for member in self.members:
                member.agent.start()
                decision = ScopeAssigned(
                    scope_name=member.scope, new_epoch=1, primary_node=member.name,
                    region=member.region, reason="forced", based_on=0, based_on_epoch=0,
                )  # fmt: skip
                log.append(member.scope, decision, node_id="test", scope="coordinator/eu")
        until(lambda: all(m.leads() for m in self.members), 30, "all lead")
        until(lambda: all(m.judged_by() for m in self.members), 30, "all know the others' clocks")

    def skews(self, member: Member) -> list[ClockSkew]:
        """What a node has published of its clock."""
        found = []
        for raw in records(self.broker, f"{member.region}.1.health", 1):
            fact = Codec().decode_fact(raw.value)
            if isinstance(fact.data, ClockSkew) and fact.envelope.aggregate_id == member.name:
                found.append(fact.data)
        return found

    def beats(self, member: Member) -> list[int]:
        """Stamps of a node's heartbeats."""
        facts = [
            Codec().decode_fact(raw.value)
            for raw in records(self.broker, f"{member.region}.1.heartbeats", 1)
        ]
        return [f.envelope.stamp for f in facts if f.envelope.aggregate_id == member.name]

    def shown(self, region: str) -> list[tuple[str, bool]]:
        """The nodes of a region that `status` shows, and whether they may lead."""
        place = RegionEndpoints(
            kafka_bootstrap=self.broker, postgres_dsn="", postgres_password_file=Path("none"),
            origin=f"{region}.1",
        )  # fmt: skip
        topology = Topology(regions=(region,), partitions=1)
        endpoints = Endpoints(
            topology=topology, regions={region: place}, control_bootstrap=self.broker, s3=None
        )
        return [(skew.node_id, skew.leads) for skew in skews(endpoints, region)]


Made = Callable[[str], Network]


@pytest.fixture
def network() -> Iterator[Made]:
    """Makes networks, by their regions, that are closed at the end."""
    made: list[Network] = []
    holder = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    found = holder.list_topics("control", timeout=10).brokers
    broker = ",".join(f"{b.host}:{b.port}" for b in found.values())

    def make(regions: str) -> Network:
        for region in regions.split():  # asking for a topic makes it
            holder.list_topics(f"{region}.1.health", timeout=10)
            holder.list_topics(f"{region}.1.heartbeats", timeout=10)
        made.append(Network(broker, regions))
        return made[-1]

    yield make
    for one in made:
        for member in one.members:
            member.agent.close()
    holder.flush(1)


@BOTH_WAYS
def test_node_whose_clock_is_wrong_leads_nothing_until_it_is_right(
    network: Made, step: int
) -> None:
    world = network("eu")
    wrong, *others = world.members
    wrong.clock.ahead_ms = step
    assert not wrong.leads(), "at once"
    beats = len(world.beats(wrong))
    until(lambda: len(world.skews(wrong)) == 1, 20, "it is published")
    (skew,) = world.skews(wrong)
    assert (skew.leads, skew.region, skew.component) == (False, "eu", "task-manager")
    assert abs(skew.ahead_ms - step) < 60_000
    assert world.shown("eu") == [(wrong.name, False)]
    until(lambda: len(world.beats(wrong)) > beats + 10, 20, "it beats on")
    assert not wrong.leads()
    assert all(member.leads() for member in others)
    wrong.clock.ahead_ms = 0
    until(wrong.leads, 20, "it works again")
    until(lambda: world.skews(wrong)[-1].ahead_ms == 0, 20, "right again")
    assert world.shown("eu") == []
    assert [len(world.skews(member)) for member in others] == [0, 0]
    stamps = world.beats(wrong)
    assert stamps == sorted(set(stamps))
    assert wrong.agent.failed is None


@BOTH_WAYS
def test_region_whose_clocks_are_wrong_leads_nothing_and_the_others_go_on(
    network: Made, step: int
) -> None:
    world = network("eu us ap")
    wrong = [member for member in world.members if member.region == "ap"]
    others = [member for member in world.members if member.region != "ap"]
    for member in wrong:
        member.clock.ahead_ms = step
    for member in wrong:
        until(lambda m=member: len(world.skews(m)) > 0, 20, "it is published")  # type: ignore[misc]
        assert not member.leads()
    assert all(member.leads() for member in others)
    for member in wrong:
        member.clock.ahead_ms = 0
    until(lambda: all(member.leads() for member in world.members), 20, "all work again")
    assert not any(world.skews(member) for member in others)


@BOTH_WAYS
def test_clocks_that_are_all_set_at_once_hold_up_the_work_for_a_moment_only(
    network: Made, step: int
) -> None:
    world = network("eu")
    for member in world.members:
        member.clock.ahead_ms = step
    until(lambda: all(member.leads() for member in world.members), 20, "all lead again")
    assert all(member.agent.failed is None for member in world.members)


def test_node_that_starts_with_a_wrong_clock_never_leads_with_it(network: Made) -> None:
    world = network("eu")
    wrong = world.members[0]
    wrong.agent.close()
    again = Member(world.broker, "eu", "task-manager")
    again.clock.ahead_ms = HOUR
    world.members.append(again)
    again.agent.start()
    while not world.skews(again):
        assert not again.leads()
        time.sleep(0.001)
    again.clock.ahead_ms = 0
    until(again.leads, 20, "it leads once its clock is right")
