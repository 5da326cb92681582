"""The detector in trouble, and nodes that are neither well nor gone: on real processes, one region.

In the order of this file. Each test ends with the checkers of the task facts (see
`test_failover_evidence`), and fails as vacuous when its fault did not bite. The last one holds all
that was found against the recorded log.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from everlode.events.control import ScopeAssigned
from everlode.events.health import NodeDegraded, NodeLost, NodeSuspected
from everlode.events.rewards import RewardPaid
from everlode.sdk import EventProducer
from tests.faults.test_failover_evidence import SCOPE, Network
from tests.support.facts.accepted import owe
from tests.support.processes.outputs import printed_by
from tests.support.world.region import Region, until

pytestmark = pytest.mark.timeout(240)
DYING = "tests.support.processes.dying_node"
DETECTOR, REWARDS = "eu-det-1", "rewards/eu"
MANAGERS = ("eu-tm-1", "eu-tm-2", "eu-tm-3")
FLAPS = 48 if os.environ.get("LONG_TESTS") else 6
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


def ask(network: Network, *words: str) -> tuple[int, Any]:
    """Exit code and document of a command of the CLI."""
    code, out = printed_by([*words, "--dir", str(network.region.folder / "stack")])
    return code, json.loads(out)


def test_node_of_whose_beats_half_are_lost_is_suspected_and_never_lost(network: Network) -> None:
    """It answers its probes: that is a second way to it."""
    until(lambda: len(verdicts(network, NodeSuspected, "eu-tm-3")) >= 4, 90, "it was suspected")
    assert verdicts(network, NodeLost) == []
    assert network.region.follower.state.nodes["eu-tm-3"].status == "healthy"
    network.nodes["eu-tm-3"].kill()  # from here on it is as the others
    network.region.follower.wait_for(lambda s: s.nodes["eu-tm-3"].status == "lost", 60)
    network.nodes["eu-tm-3"] = network.region.node("task-manager", "eu-tm-3")
    network.healthy("eu-tm-3")


def test_primary_whose_payment_system_blocks_is_replaced_and_the_scope_cools_down(
    network: Network,
) -> None:
    """It lives, beats and renews its lease: only what it says of itself tells."""
    region = network.region
    blocked = region.node("reward-distributor", "eu-rd-1", "--priority", "9", module=DYING,
                          die="blocked")  # fmt: skip
    blocked.ready()
    region.follower.wait_for(lambda s: REWARDS in s.scopes, 60)
    heir = region.node("reward-distributor", "eu-rd-2")
    heir.ready()
    blocked.leads(1)
    with EventProducer(region.endpoints, "eu", "validations", epoch=1) as producer:
        owe(producer, "eu/blocked")
    blocked.await_entry("Note", remark="waits for ever to pay eu/blocked|m")
    heir.leads(2)

    def paid() -> list[Any]:
        return [f.data for f in region.facts("rewards") if isinstance(f.data, RewardPaid)]

    until(lambda: len(paid()) == 1, 60, "its successor pays")
    state = region.follower.state
    assert blocked.process.poll() is None
    assert state.nodes["eu-rd-1"].status == "degraded"
    decision = state.scopes[REWARDS].decision
    assert (decision.reason, decision.failed_node) == ("node-unsteady", "eu-rd-1")
    (verdict,) = verdicts(network, NodeDegraded, "eu-rd-1")[-1:]
    assert decision.verdict_id in {
        f.envelope.event_id for _, _, f in network.log("eu.1.health") if f.data == verdict
    }
    assert verdicts(network, NodeLost, "eu-rd-1") == []
    shown = ask(network, "status")[1]
    (row,) = [s for s in shown["scopes"] if s["scope"] == REWARDS]
    assert row["cools_until"] is not None
    assert ask(network, "scope", "ack", REWARDS)[0] == 0
    code, answer = ask(network, "scope", "ack", REWARDS)
    assert (code, answer["error"]["code"]) == (14, "over")
    assert REWARDS not in region.follower.state.cooldowns
    journal = (region.folder / "stack" / "payouts" / "payouts-eu.jsonl").read_text().splitlines()
    assert sum("key" in json.loads(line) for line in journal) == 1, "paid twice"
    blocked.kill()
    heir.kill()
    region.follower.wait_for(
        lambda s: {s.nodes[n].status for n in ("eu-rd-1", "eu-rd-2")} <= {"lost", "fenced"}, 60
    )


def test_detector_that_stood_still_convicts_nobody_of_its_own_pause(network: Network) -> None:
    epoch, before = network.epoch, len(verdicts(network, NodeSuspected, DETECTOR))
    known = {f.envelope.event_id for _, _, f in network.log("eu.1.health")}
    network.nodes[DETECTOR].signal(signal.SIGSTOP)
    network.submit("detector-stopped")
    time.sleep(12)  # all that comes in meanwhile it reads at once
    network.nodes[DETECTOR].signal(signal.SIGCONT)
    until(
        lambda: len(verdicts(network, NodeSuspected, DETECTOR)) > before, 30,
        "vacuous: its own silence is not in the log",
    )  # fmt: skip
    time.sleep(3)
    found = [f for _, _, f in network.log("eu.1.health") if isinstance(f.data, NodeLost)]
    lost = {f.envelope.aggregate_id for f in found if f.envelope.event_id not in known}
    assert lost <= {DETECTOR}  # what it had found before comes again, with the same ids
    state = network.region.follower.state
    assert {state.nodes[node].status for node in network.nodes} == {"healthy"}
    assert network.epoch == epoch
    network.check()


def test_primary_that_dies_while_no_detector_runs_is_replaced_once_one_does(
    network: Network,
) -> None:
    epoch, primary = network.epoch, network.primary
    network.nodes[DETECTOR].kill()
    network.nodes[primary].kill()
    time.sleep(3)
    assert network.epoch == epoch, "vacuous: somebody decided without a verdict"
    network.nodes[DETECTOR] = network.region.process("detector", DETECTOR)
    network.submit("no-detector")  # waits; no error
    assert network.epoch == epoch + 1
    network.check()
    network.nodes[primary] = network.region.node("task-manager", primary)
    network.healthy(primary)


def test_primary_and_its_successor_killed_one_after_the_other_are_replaced_by_the_third(
    network: Network,
) -> None:
    """The second dies as soon as it may lead, on its way to write: it kills itself, which no
    test from outside does soon enough.
    """
    first, epoch = network.primary, network.epoch
    second = next(name for name in MANAGERS if name != first)
    network.nodes[second].kill()
    network.region.follower.wait_for(lambda s: s.nodes[second].status == "lost", 60)
    network.nodes[second] = network.region.node(
        "task-manager", second, "--priority", "9", module=DYING, die="elected"
    )
    network.healthy(second)
    network.submit("before-both")
    network.nodes[first].kill()
    until(lambda: network.nodes[second].process.poll() is not None, 60, "the second dies, too")
    network.submit("after-both")
    assert network.primary not in (first, second)
    decided = [d for d in (f.data for f in network.control_log()) if isinstance(d, ScopeAssigned)]
    heir = [d.primary_node for d in decided if (d.scope_name, d.new_epoch) == (SCOPE, epoch + 1)]
    assert heir == [second]
    assert epoch + 1 not in {f.envelope.epoch for *_, f in network.log("eu.1.tasks", 2)}
    network.check()
    for node in (first, second):
        network.nodes[node] = network.region.node("task-manager", node)
        network.healthy(node)


def test_primary_stopped_and_woken_again_and_again_loses_nothing(network: Network) -> None:
    victim, before = network.primary, len(verdicts(network, NodeSuspected, network.primary))
    for number in range(FLAPS):
        network.nodes[victim].signal(signal.SIGSTOP)
        time.sleep(2)
        network.nodes[victim].signal(signal.SIGCONT)
        network.submit(f"flap-{number}", 5)
        time.sleep(0.5)
    assert len(verdicts(network, NodeSuspected, victim)) >= before + 3, "vacuous: nobody noticed"
    network.healthy(victim)
    network.submit("after-flaps")
    network.check()


def test_verdicts_of_all_this_follow_from_the_log_and_are_measured(network: Network) -> None:
    code, found = ask(network, "scope", "explain", SCOPE, "--replay")
    assert (code, found.get("replay", {}).get("disagreements")) == (0, []), found
    assert found["replay"]["agreed"] >= 20
    quick = network.region.folder / "quick.yaml"
    quick.write_text("pause_ms: 100\nalive_ms: 1\nfloor_ms: 10\nconvicted: 0.3\n")
    code, other = ask(network, "scope", "explain", SCOPE, "--with", str(quick))
    assert code == 0
    only = [r for r in other["with"] if r["at"] is None and r["event"] == "NodeLost"]
    assert only, "settings as quick as these find somebody lost whom ours did not"
    code, shown = ask(network, "status", "--detector")
    (one,) = shown["detectors"]
    killed = [
        d for d in (f.data for f in network.control_log())
        if isinstance(d, ScopeAssigned) and d.reason == "node-lost" and d.scope_name == SCOPE
    ]  # fmt: skip
    assert one["lost"] >= len(killed) >= 3
    assert {t["rule"] for t in one["time_to_detect"]} & {"refused-and-ended", "refused-and-silent"}
    assert one["misses"] == []
    assert "eu-tm-3" not in {w["node_id"] for w in one["false_positives"]}
