"""What a failover is decided on, and in which order: on real processes, one region for all tests.

A process that ends needs no silence: the beats here are so far apart that a missed one would be
noticed much later. Every test ends with the checkers of the task facts: nobody writes in an epoch
that is over, nothing is missing, nothing that was answered is lost.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import NamedTuple

import psutil
import pytest

from everlode.adapters.kafka_follower import ControlFollower
from everlode.avro.codec import Codec
from everlode.detection.detector import Detector
from everlode.events import commands as c
from everlode.events.barriers import EpochOpened
from everlode.events.base import Evidence, Fact
from everlode.events.control import LeaseRenewed, NodeStatusChanged, ScopeAssigned
from everlode.events.health import DetectorStarted, NodeLost, NodeSuspected
from everlode.events.heartbeats import ProbeAnswered
from everlode.events.recovery import TaskManagerRecoveryEnded
from everlode.events.tasks import TaskSubmitted
from everlode.log.facts import FactLog
from everlode.sdk import MiningClient
from tests.support.facts.one_writer import check_log
from tests.support.facts.whole_topic import records
from tests.support.world.one_region import ACKNOWLEDGED
from tests.support.world.region import MARKED_S, Node, Region, until

pytestmark = pytest.mark.timeout(240)
SCOPE = "task-manager/eu"
WAIT_MS, IN_TIME_S = 40_000, 20
"""A fetch that waits at the broker, and what must not wait for it."""
TIMINGS = {
    "EVERLODE_BEAT_MS": "2000",
    "EVERLODE_RENEW_MS": "500",
    "EVERLODE_CONTROL_ELECTION_MS": "1500",
    "EVERLODE_FENCE_AFTER_MS": "4000",
}


class Network(NamedTuple):
    """A region with a detector, a coordinator and task managers, and a client."""

    region: Region
    nodes: dict[str, Node]
    client: MiningClient
    answered: set[str]
    """Tasks that were acknowledged."""

    @property
    def primary(self) -> str:
        return self.region.follower.state.scopes[SCOPE].primary

    @property
    def epoch(self) -> int:
        return self.region.follower.state.epoch(SCOPE)

    def submit(self, name: str, count: int = 20) -> None:
        """Submit tasks without waiting for each, and wait for all answers."""
        command = c.SubmitTask(
            client_id="c", task_type="inference", payload_uri="s3://x",
            payload_sha256=hashlib.sha256(b"x").hexdigest(), payload_bytes=1, cpu_milli=1,
            memory_mib=1, gpus=1, gpu_milli=1, base_reward_micro=1000, max_attempts=3,
            deadline_at=self.client._clock.event_now() + timedelta(days=365),
        )  # fmt: skip
        names = [f"eu/{name}-{n}" for n in range(count)]
        answers = [self.client.send(task, command, timeout_s=60) for task in names]
        assert [r for a in answers if (r := a.result(60)).outcome not in ACKNOWLEDGED] == []
        self.answered.update(names)

    def healthy(self, node: str) -> None:
        """Wait until the control log has the node so."""
        self.region.follower.wait_for(
            lambda s: node in s.nodes and s.nodes[node].status == "healthy", 60
        )

    def succeeded(self, epoch: int) -> None:
        """Wait until a successor leads in a later epoch."""
        self.region.follower.wait_for(
            lambda s: s.epoch(SCOPE) > epoch and s.scopes[SCOPE].renewed_at >= 0, 90
        )

    def log(self, topic: str, partitions: int = 1) -> list[tuple[int, int, Fact]]:
        """(partition, offset, fact) of a topic."""
        codec = Codec()
        found = self.region.records(topic, partitions)
        return [(raw.partition, raw.offset, codec.decode_fact(raw.value)) for raw in found]

    def control_log(self) -> list[Fact]:
        """All of the control log."""
        bootstrap = self.region.endpoints.control_bootstrap
        assert bootstrap is not None
        codec = Codec()
        return [codec.decode_fact(raw.value) for raw in records(bootstrap, "control")]

    def lost(self, node: str) -> Fact:
        """The last verdict that a node is lost."""
        found = [f for _, _, f in self.log("eu.1.health") if isinstance(f.data, NodeLost)]
        return [f for f in found if f.envelope.aggregate_id == node][-1]

    def check(self) -> None:
        """The checkers."""

        def stored() -> set[str]:
            found = (f for *_, f in self.log("eu.1.tasks", 2) if isinstance(f.data, TaskSubmitted))
            return {f.envelope.aggregate_id for f in found}

        until(lambda: self.answered <= stored(), MARKED_S, "lost_write")
        check_log([(partition, fact) for partition, _, fact in self.log("eu.1.tasks", 2)])


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TIMINGS.items():
            patch.setenv(name, value)
        with Region(tmp_path_factory.mktemp("evidence")) as region:
            region.process("detector", "eu-det-1").ready()
            nodes = {f"eu-tm-{n}": region.node("task-manager", f"eu-tm-{n}") for n in (1, 2, 3)}
            for node in nodes.values():
                node.ready()
            region.coordinator("eu-co-1").ready()
            region.follower.wait_for(
                lambda s: SCOPE in s.scopes and s.scopes[SCOPE].renewed_at >= 0, 60
            )
            with region.client("c1") as client:
                yield Network(region, nodes, client, set())


def watched(node: Node) -> bool:
    """Whether somebody has a connection to its endpoint."""
    found = psutil.Process(node.process.pid).net_connections("tcp")
    listens = {c.laddr.port for c in found if c.status == psutil.CONN_LISTEN}
    return any(c.laddr.port in listens for c in found if c.status == psutil.CONN_ESTABLISHED)


def kill(node: Node) -> None:
    node.kill()


def end(node: Node) -> None:
    node.signal(signal.SIGTERM)
    node.process.wait(40)


@pytest.mark.parametrize("how", [kill, end], ids=["killed", "ended"])
def test_primary_whose_process_is_gone_is_replaced_without_a_missed_beat(
    network: Network, how: Callable[[Node], None]
) -> None:
    name, epoch, primary = how.__name__, network.epoch, network.primary
    network.submit(f"before-{name}")
    until(lambda: watched(network.nodes[primary]), 20, "the coordinator watches it")
    how(network.nodes[primary])
    network.submit(f"after-{name}")  # waits; no error
    network.succeeded(epoch)
    assert network.primary != primary

    # the verdict: a refusal after a connection had ended, no phi, nobody was suspected before
    verdict = network.lost(primary)
    lost = verdict.data
    assert isinstance(lost, NodeLost)
    # who ends in good order beats no more while it does, and may miss one on a busy machine
    slow = how is end and lost.rule == "refused-and-silent"
    assert slow or lost.rule == "refused-and-ended"
    assert (lost.phi, lost.actionable) == (0.0, True)
    answered = evidence(network, lost.evidence[-1])
    assert isinstance(answered.data, ProbeAnswered)
    assert answered.data.answer == "refused"
    assert slow or answered.data.connection_ended
    suspected = [f for _, _, f in network.log("eu.1.health") if isinstance(f.data, NodeSuspected)]
    assert primary not in {f.envelope.aggregate_id for f in suspected}
    assert verdict.envelope.event_id in replayed(network, lost.evidence[0].partition)

    # the order: noted as lost, decided by that verdict, fenced, only then written on
    control = network.control_log()
    (noted,) = [
        n for n, f in enumerate(control)
        if isinstance(f.data, NodeStatusChanged) and f.data.node_id == primary
        and f.data.to_status == "lost" and f.data.reason == verdict.envelope.event_id
    ]  # fmt: skip
    (decided,) = [
        n for n, f in enumerate(control)
        if isinstance(f.data, ScopeAssigned) and f.data.scope_name == SCOPE
        and f.data.new_epoch == epoch + 1
    ]  # fmt: skip
    decision = control[decided].data
    assert isinstance(decision, ScopeAssigned)
    assert decision.verdict_id == verdict.envelope.event_id
    assert noted < decided
    for partition in (0, 1):
        facts = [f for p, _, f in network.log("eu.1.tasks", 2) if p == partition]
        first = next(f for f in facts if f.envelope.epoch == epoch + 1)
        assert isinstance(first.data, EpochOpened)
        assert first.envelope.stamp > control[decided].envelope.stamp
    network.check()

    network.nodes[primary] = network.region.node("task-manager", primary)
    network.healthy(primary)  # taken back, as a secondary
    assert network.epoch == epoch + 1


def test_secondary_whose_process_is_gone_is_lost_and_the_scope_stays(network: Network) -> None:
    epoch, primary = network.epoch, network.primary
    other = next(name for name in network.nodes if name != primary)
    until(lambda: watched(network.nodes[other]), 20, "the coordinator watches it")
    network.nodes[other].kill()
    network.region.follower.wait_for(lambda s: s.nodes[other].status == "lost", 60)
    lost = network.lost(other).data
    assert isinstance(lost, NodeLost)
    assert lost.rule == "refused-and-ended"
    network.submit("secondary")
    assert (network.epoch, network.primary) == (epoch, primary)
    network.nodes[other] = network.region.node("task-manager", other)
    network.healthy(other)


def test_primary_that_stands_still_is_replaced_by_phi_and_is_fenced_when_it_wakes(
    network: Network,
) -> None:
    def ended() -> list[TaskManagerRecoveryEnded]:
        found = [f.data for _, _, f in network.log("eu.1.recovery")]
        mine = [d for d in found if isinstance(d, TaskManagerRecoveryEnded)]
        return [d for d in mine if d.failed_node == primary]

    epoch, primary = network.epoch, network.primary
    network.submit("before-stop")
    handled = len(ended())
    network.nodes[primary].signal(signal.SIGSTOP)
    network.submit("during-stop")
    network.succeeded(epoch)
    lost = network.lost(primary).data
    assert isinstance(lost, NodeLost)
    assert (lost.rule, lost.actionable) == ("phi", True)
    until(lambda: len(ended()) == handled + 1, 60, "its loss is handled")
    told = ended()[-1]
    assert (told.success, told.new_primary) == (True, network.primary)

    before = len(network.log("eu.1.tasks", 2))
    network.nodes[primary].signal(signal.SIGCONT)
    until(lambda: network.nodes[primary].reports("SteppedDown", scope=SCOPE), 60, "it steps down")
    network.submit("after-stop")
    network.healthy(primary)
    assert network.epoch == epoch + 1
    after = network.log("eu.1.tasks", 2)
    assert len(after) > before, "vacuous"
    network.check()


def test_decision_ends_a_fetch_that_waits_for_more(network: Network) -> None:
    """So does a first renewal; nobody who follows is woken by anything else."""
    bootstrap = network.region.endpoints.control_bootstrap
    assert bootstrap is not None
    with closing(ControlFollower(bootstrap, wait_ms=WAIT_MS).start()) as follower:
        for _ in range(2):  # the first may meet the end of a fetch by chance
            epoch = network.region.assign("rewards", "nobody")
            follower.wait_for(lambda s, e=epoch: s.epoch("rewards/eu") == e, IN_TIME_S)  # type: ignore[misc]
            renewed = LeaseRenewed(
                scope_name="rewards/eu", node_id="nobody", held_epoch=epoch, nonce=str(epoch)
            )
            at = network.region.control.append("rewards/eu", renewed, node_id="nobody")
            follower.wait_for(lambda s, at=at: s.position >= at, IN_TIME_S)  # type: ignore[misc]


def test_log_that_is_followed_is_opened_though_its_fetch_waits(network: Network) -> None:
    with closing(
        FactLog(network.region.bootstrap, "eu.1", "rewards", 2, lambda _: None, wait_ms=WAIT_MS)
    ) as log:
        log.follow(1.0)  # the broker has its fetch, and answers it when its time is over
        with ThreadPoolExecutor(1) as pool:
            pool.submit(log.open, {"rewards/eu": 1}).result(IN_TIME_S)


def evidence(network: Network, where: Evidence) -> Fact:
    """The record that evidence names."""
    for raw in records(network.region.bootstrap, where.topic, 2):
        if (raw.partition, raw.offset) == (where.partition, where.offset):
            return Codec().decode_fact(raw.value)
    raise AssertionError(f"{where} is not there")


def replayed(network: Network, partition: int) -> set[str]:
    """The verdicts that a fold of the recorded partition gives, from where its detector began."""
    started = [
        f.data.from_offset for _, _, f in network.log("eu.1.health")
        if isinstance(f.data, DetectorStarted) and f.data.partition == partition
    ]  # fmt: skip
    detector = Detector("eu.1.heartbeats", partition)
    return {
        verdict.event_id
        for p, offset, fact in network.log("eu.1.heartbeats", 2)
        if p == partition and offset >= started[-1]
        for verdict in detector.observe(offset, fact)
    }
