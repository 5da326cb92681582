"""Clocks that are set an hour wrong while their processes work: no fact is stamped so.

Of one primary of eu, and of all of ap. The regions share a broker and a database: what judges
clocks are the renewals on the control log, of real processes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from everlode.adapters.kafka_topics import ensure_topics
from everlode.avro.codec import Codec
from everlode.events import commands as c
from everlode.events.stamp import MAX_AHEAD_MS, millis_of
from everlode.sdk import Endpoints, MiningClient
from everlode.stack.native.supervisor import save_options
from everlode.topics import catalogue
from everlode.topics.names import fact_topic
from tests.support.processes.entries import entries, matching
from tests.support.processes.outputs import printed_by
from tests.support.world.region import TOPOLOGY, Node, Region, region_of, until

pytestmark = pytest.mark.timeout(180)
HOUR = 3_600_000
RIGHT = {
    "eu-tm-1": ("task-manager", "tasks"), "eu-rd-1": ("reward-distributor", "rewards"),
    "us-rd-1": ("reward-distributor", "rewards"),
}  # fmt: skip
WRONG = {
    "eu-mr-1": ("miner-registry", "miners"), "ap-mr-1": ("miner-registry", "miners"),
    "ap-rd-1": ("reward-distributor", "rewards"),
}  # fmt: skip
"""Whose clocks are set: one of three in eu, and all that there are in ap."""


class Network(Region):
    """Three regions, each led by what the test starts; `wrong` sets the clocks of `WRONG`."""

    named: dict[str, Node]

    def __enter__(self) -> Network:
        super().__enter__()
        self.wrong = self.folder / "wrong"
        self.wrong.write_text("0")
        topology = TOPOLOGY.model_copy(update={"regions": ("eu", "us", "ap")})
        place = self.endpoints.regions["eu"]
        regions = {
            name: place.model_copy(update={"origin": topology.origin(name)})
            for name in topology.regions
        }
        control = self.endpoints.control_bootstrap
        self.endpoints = Endpoints(
            topology=topology, regions=regions, control_bootstrap=control, s3=None
        )
        self.dir = self.folder / "network"
        save_options(self.dir, topology)
        self.endpoints.save(self.dir)
        specs = {s.name: s for s in catalogue(topology) if s.cluster in regions}
        ensure_topics(self.bootstrap, [*specs.values()])
        return self

    def clocks(self, name: str) -> list[dict[str, object]]:
        """What `everlode status` shows of wrong clocks in a region."""
        code, out = printed_by(["status", "clusters", "rewards", name, "--dir", str(self.dir)])
        found: list[dict[str, object]] = json.loads(out)["clocks"]
        assert code == (20 if found else 0)
        return found

    def shown(self) -> set[str]:
        """The nodes whose clocks are shown as wrong, which lead nothing."""
        found = [clock for name in ("eu", "ap") for clock in self.clocks(name)]
        assert all(clock["finding"] == "ClockSkew" for clock in found)
        return {str(clock["node_id"]) for clock in found if not clock["leads"]}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("clocks")) as made:
        projector = made.process("projector", "eu-pj-1")
        nodes = {name: made.node(kind, name) for name, (kind, _) in RIGHT.items()}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EVERLODE_CLOCK_WRONG_FILE", str(made.wrong))
            nodes |= {name: made.node(kind, name) for name, (kind, _) in WRONG.items()}
        for name, (_, component) in (RIGHT | WRONG).items():
            nodes[name].ready()
            nodes[name].leads(made.assign(component, name))
        projector.ready()
        made.named = nodes
        yield made


def stepped_down(node: Node) -> int:
    """How often it has, by itself."""
    return len(matching(entries(node.log), "SteppedDown"))


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])
def test_node_and_region_whose_clocks_are_set_wrong_stop_and_work_again_without_a_restart(
    network: Network, step: int
) -> None:
    before = {name: stepped_down(node) for name, node in network.named.items()}
    name = f"m-{'ahead' if step > 0 else 'behind'}"
    with ExitStack() as open_now:
        miners = [
            open_now.enter_context(MiningClient(network.endpoints, home, name))
            for home in ("eu", "ap")
        ]
        for miner in miners:
            miner.register_miner(["inference"], endpoint="x")
        network.wrong.write_text(str(step))
        until(
            lambda: all(stepped_down(network.named[n]) > before[n] for n in WRONG),
            40, f"each of these leads nothing: {', '.join(WRONG)}",
        )  # fmt: skip
        stake = c.DepositStake(amount_micro=5)
        waiting = [
            miner.send(f"{home}/{name}", stake, timeout_s=100)
            for miner, home in zip(miners, ("eu", "ap"), strict=True)
        ]
        until(lambda: network.shown() == set(WRONG), 60, "status shows them")
        answer = miners[0].submit_task(name, "inference", "s3://x", "0" * 64, 1)
        assert (answer.outcome, answer.node_id) == ("done", "eu-tm-1"), "the others go on"
        assert [one.done() for one in waiting] == [False, False]
        network.wrong.write_text("0")
        assert {one.result(100).node_id for one in waiting} == {"eu-mr-1", "ap-mr-1"}
        until(lambda: network.shown() == set(), 60, "status shows that they are right again")
    assert {n: stepped_down(network.named[n]) for n in RIGHT} == {n: before[n] for n in RIGHT}
    assert all(node.process.poll() is None for node in network.named.values())
    latest = time.time_ns() // 1_000_000 + MAX_AHEAD_MS
    codec = Codec()
    for one, (_, component) in (RIGHT | WRONG).items():
        for raw in network.records(fact_topic(f"{region_of(one)}.1", component)):
            assert millis_of(codec.decode_fact(raw.value).envelope.stamp) < latest
