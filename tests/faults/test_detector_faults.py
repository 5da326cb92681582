"""A node that is neither well nor gone: half of its beats are lost. On real processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from everlode.events.health import NodeLost, NodeSuspected
from tests.faults.test_failover_evidence import SCOPE, Network
from tests.support.world.region import Region, until

pytestmark = pytest.mark.timeout(240)
DYING = "tests.support.processes.dying_node"
DETECTOR = "eu-det-1"
TIMINGS = {
    "EVERLODE_RENEW_MS": "500",
    "EVERLODE_CONTROL_ELECTION_MS": "1500",
    "EVERLODE_FENCE_AFTER_MS": "4000",
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TIMINGS.items():
            patch.setenv(name, value)
        with Region(tmp_path_factory.mktemp("detector")) as region:
            nodes = {DETECTOR: region.process("detector", DETECTOR)}
            nodes |= {f"eu-tm-{n}": region.node("task-manager", f"eu-tm-{n}") for n in (1, 2)}
            nodes["eu-tm-3"] = region.node("task-manager", "eu-tm-3", module=DYING, die="lossy")
            for node in nodes.values():
                node.ready()
            region.coordinator("eu-co-1").ready()
            region.follower.wait_for(
                lambda s: SCOPE in s.scopes and s.scopes[SCOPE].renewed_at >= 0, 60
            )
            with region.client("c1") as client:
                yield Network(region, nodes, client, set())


def verdicts(network: Network, kind: type[Any], node: str = "") -> list[Any]:
    """What was published of this kind, about this node or any."""
    return [
        f.data for _, _, f in network.log("eu.1.health")
        if isinstance(f.data, kind) and node in ("", f.envelope.aggregate_id)
    ]  # fmt: skip


def test_node_of_whose_beats_half_are_lost_is_suspected_and_never_lost(network: Network) -> None:
    """It answers its probes: that is a second way to it."""
    until(lambda: len(verdicts(network, NodeSuspected, "eu-tm-3")) >= 4, 90, "it was suspected")
    assert verdicts(network, NodeLost) == []
    assert network.region.follower.state.nodes["eu-tm-3"].status == "healthy"
    network.nodes["eu-tm-3"].kill()  # from here on it is as the others
    network.region.follower.wait_for(lambda s: s.nodes["eu-tm-3"].status == "lost", 60)
    network.nodes["eu-tm-3"] = network.region.node("task-manager", "eu-tm-3")
    network.healthy("eu-tm-3")
