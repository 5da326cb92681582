"""A region on three brokers, replication 3, two in sync: brokers are killed, stopped, restarted.

The region's topics are on the three nodes of a control cluster, beside the control log; its own
broker is not used. Throughout, a client deposits; what was acknowledged must be in the log, once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from everlode.adapters.kafka_topics import ensure_topics
from everlode.errors import DeadlineExceeded
from everlode.events import commands as c
from everlode.events.base import CommandAnswered
from everlode.events.miners import StakeDeposited
from everlode.sdk import MiningClient
from everlode.stack import NativeStack
from everlode.topics import Topology, catalogue
from tests.support.world.region import MARKED_S, Node, Region, until

pytestmark = pytest.mark.timeout(240)
TOPOLOGY = Topology(regions=("eu",), replication=3, min_insync=2)
BROKERS = ("control/1", "control/2", "control/3")
MINER = "eu/m1"


class Replicated(Region):
    """`eu` on three brokers; a registry leads, a client deposits."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        native = TOPOLOGY.model_copy(update={"replication": 1, "min_insync": 1})
        self.stack = NativeStack(native, folder / "stack", mirrors=False, control_nodes=3, s3=None)
        self.sent: list[Future[CommandAnswered]] = []

    def __enter__(self) -> Replicated:
        super().__enter__()
        bootstrap = self.endpoints.control()
        ensure_topics(bootstrap, [s for s in catalogue(TOPOLOGY, 1) if s.cluster == "eu"])
        place = self.endpoints.regions["eu"].model_copy(update={"kafka_bootstrap": bootstrap})
        self.endpoints = self.endpoints.model_copy(
            update={"topology": TOPOLOGY, "regions": {"eu": place}}
        )
        self.endpoints.save(self.stack.data_dir)
        self.bootstrap = bootstrap
        self.stack.stop("eu/kafka")
        self.registry: Node = self.leader("miner-registry", "miners", "eu-mr-1")
        self.depositing: MiningClient = self.client("m1", timeout_s=60)
        self.depositing.register_miner(["inference"], endpoint="127.0.0.1:1")
        return self

    def deposit(self, count: int = 20) -> list[Future[CommandAnswered]]:
        """Send some; each is its own."""
        command = c.DepositStake(amount_micro=1)
        made = [self.depositing.send(MINER, command) for _ in range(count)]
        self.sent += made
        return made

    def leads(self) -> str:
        """The broker that leads the first partition of the miners' facts."""
        found = self._admin().list_topics("eu.1.miners", timeout=10)
        return f"control/{found.topics['eu.1.miners'].partitions[0].leader}"

    def follows(self) -> str:
        """One of the others; the one that keeps the registry's positions, if that is another."""
        admin = self._admin()  # kept until it has answered
        groups = admin.describe_consumer_groups(["primary.miners.eu"])
        keeps = groups["primary.miners.eu"].result(10).coordinator.id
        return next(b for b in (f"control/{keeps}", *BROKERS) if b != self.leads())

    def _admin(self) -> AdminClient:
        """A new one each time: it knows nothing of who led before."""
        return AdminClient({"bootstrap.servers": self.bootstrap})

    def in_step(self) -> int:
        """The least number of replicas that any partition of the miners' topics has in step."""
        topics = self._admin().list_topics(timeout=10).topics
        mine = [t for name, t in topics.items() if name.endswith((".miners", ".replies"))]
        return min(len(p.isrs) for t in mine for p in t.partitions.values())

    def whole(self) -> None:
        """Wait until all three have everything."""
        until(lambda: self.in_step() == 3, 60, "three in step")


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    with Replicated(tmp_path_factory.mktemp("replicated")) as made:
        yield made
        made.depositing.close()
        sys.stderr.write(made.registry.log.read_text()[-4000:])  # shown when a test fails


def answered(made: list[Future[CommandAnswered]]) -> None:
    assert {one.result(60).outcome for one in made} <= {"done", "repeated"}


def check(region: Replicated) -> None:
    """Each acknowledged deposit is in the log once, and nothing is missing from it."""

    def stored() -> list[str]:
        facts = region.facts("miners")
        return [f.envelope.event_id for f in facts if isinstance(f.data, StakeDeposited)]

    done = [one for one in region.sent if one.done() and one.exception() is None]
    acknowledged = {fact.event_id for one in done for fact in one.result().facts}
    assert len(acknowledged) == len(done)
    until(lambda: acknowledged <= set(stored()), MARKED_S, "lost_write")
    assert len(set(stored())) == len(stored()), "twice"
    facts = region.facts("miners")
    versions = sorted(
        f.envelope.version for f in facts if f.envelope.aggregate_id == MINER and f.envelope.version
    )
    assert versions == list(range(1, len(versions) + 1)), "gap"


@pytest.mark.parametrize("fault", ["leader killed", "follower stopped"])
def test_region_goes_on_without_one_broker(region: Replicated, fault: str) -> None:
    """One of the two keeps the positions of what the registry has read."""
    answered(region.deposit())
    if fault == "leader killed":
        region.stack.kill(broker := region.leads())
    else:
        region.stack.stop(broker := region.follows())
    answered(region.deposit())  # waits; no error
    until(lambda: region.in_step() == 2, 30, "vacuous: the broker is still in step")
    answered(region.deposit())
    region.stack.restart(broker)
    region.whole()
    check(region)


def test_writes_are_refused_by_name_while_two_brokers_are_away(region: Replicated) -> None:
    answered(region.deposit())
    away = [b for b in BROKERS if b != region.leads()]
    for broker in away:
        region.stack.kill(broker)
    command = c.DepositStake(amount_micro=7)
    with pytest.raises(DeadlineExceeded, match=r"DepositStake away-1 of eu/m1 .* may be carried"):
        region.depositing.call(MINER, command, command_id="away-1", timeout_s=8)
    region.registry.await_entry("SteppedDown", scope="miner-registry/eu")
    for broker in away:
        region.stack.restart(broker)
    again = region.depositing.send(MINER, command, command_id="away-1")
    region.sent.append(again)
    answered([again, *region.deposit()])
    region.whole()
    check(region)


def test_brokers_restarted_one_after_the_other_lose_nothing(region: Replicated) -> None:
    for broker in BROKERS:
        during = region.deposit()
        region.stack.stop(broker)
        during += region.deposit()
        region.stack.restart(broker)
        answered(during)
        region.whole()
    check(region)
    assert region.registry.process.poll() is None
    region.registry.signal(signal.SIGTERM)
    region.registry.process.wait(40)
