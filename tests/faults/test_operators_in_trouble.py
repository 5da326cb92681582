"""What operators ask for while a primary is silent, dies, or is lost in a pause, on real parts.

As `test_operators_verbs`, on a stack of its own. `eu-tm-1` leads at first, and is a node that never
says what it has committed.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from everlode.events.control import ScopeDrained
from tests.support.processes.entries import await_entry
from tests.support.world.one_region import SCOPE
from tests.support.world.operated import MANAGERS, Load, Operated, operated, well_before_and_after

UNDRAINED = "tests.support.processes.undrained_node"
pytestmark = pytest.mark.timeout(280)


def begin(network: Operated) -> None:
    """Two coordinators; who leads at first does not drain."""
    network.start("eu-det-1", "detector", "run")
    network.start("eu-mr-1", "node", "run", "miner-registry")
    network.start("eu-tm-1", "node", "run", "task-manager", "--priority", "9", module=UNDRAINED)
    for node in MANAGERS[1:]:
        network.manager(node)
    network.await_nodes(5)
    network.coordinator()
    network.coordinator()
    network.led()
    assert network.primary == "eu-tm-1"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    with operated(tmp_path_factory.mktemp("in-trouble"), begin) as network:
        yield network


network = pytest.fixture(well_before_and_after)


def test_primary_that_does_not_drain_leads_on_after_the_time_out(network: Operated) -> None:
    primary, epoch = network.primary, network.state.epoch(SCOPE)
    load = Load(network.client)
    load.start()
    code, document = network.scope("switchover", SCOPE, "--wait", "--timeout", "8")
    assert (code, document["error"]["code"]) == (124, "timeout"), document
    assert f"{primary} goes on as before" in document["error"]["message"]
    time.sleep(1)
    network.acknowledged += load.end()  # it takes commands again, those of the freeze too
    assert (network.primary, network.state.epoch(SCOPE)) == (primary, epoch)
    assert network.reported(primary, "Frozen"), "vacuous: it was not frozen"


def test_primary_killed_in_the_freeze_is_replaced_by_a_failover(network: Operated) -> None:
    primary, epoch = network.primary, network.state.epoch(SCOPE)
    load = Load(network.client)
    load.start()
    running = network.asked("scope", "switchover", SCOPE, "--wait", "--timeout", "60")
    network.until(lambda s: any(w.freeze for w in s.wishes.open))
    network.signal(primary, signal.SIGKILL)
    code, document = network.answer(running)
    assert (code, document["error"]["code"]) == (1, "overtaken"), document
    assert network.state.epoch(SCOPE) == epoch + 1
    assert network.primary != primary
    assert network.of_control(ScopeDrained) == [], "vacuous: it has drained"
    network.acknowledged += load.end()
    network.manager(primary)


def test_pause_holds_the_failover_up_and_its_end_lets_it_go(network: Operated) -> None:
    primary, epoch = network.primary, network.state.epoch(SCOPE)
    code, wish = network.scope("pause", SCOPE, "--for", "1h", "--reason", "switch replaced")
    assert (code, wish["outcome"]) == (0, "done")
    network.signal(primary, signal.SIGKILL)
    network.until(lambda s: s.nodes[primary].status in ("lost", "fenced"))
    leader = network.state.scopes["coordinator/eu"].primary
    await_entry(network.path(leader), "HandlingStuck", node=primary, text="paused by ann")
    time.sleep(3)
    assert network.state.epoch(SCOPE) == epoch
    lost = f"{primary} is {network.state.nodes[primary].status}, and does not beat"
    found = network.status().document
    assert [(p["scope"], p["by"], p["reason"]) for p in found["paused"]] == [
        (SCOPE, "ann", "switch replaced")
    ]
    assert lost in found["problems"]
    assert network.scope("ack", primary).code == 0
    assert lost not in network.status().document["problems"]
    # an operator's own failover is not held up
    code, wish = network.scope("failover", SCOPE, "--wait")
    assert (code, wish["outcome"]) == (0, "done"), wish
    assert network.state.epoch(SCOPE) == epoch + 1
    assert network.scope("resume", SCOPE).code == 0
    network.manager(primary)
    network.until(lambda s: s.nodes[primary].status == "healthy", 60)
    code, document = network.scope("ack", primary)
    assert (code, document["error"]["code"]) == (14, "over")
    assert f"{primary} is healthy: its loss is over" in document["error"]["message"]


def test_pause_ends_by_itself(network: Operated) -> None:
    primary, epoch = network.primary, network.state.epoch(SCOPE)
    assert network.scope("pause", SCOPE, "--for", "30s").code == 0
    (pause,) = network.state.wishes.pauses
    assert pause.until_ms is not None
    network.signal(primary, signal.SIGKILL)
    network.until(lambda s: s.nodes[primary].status in ("lost", "fenced"))
    assert network.state.epoch(SCOPE) == epoch
    assert time.time() * 1000 < pause.until_ms, "vacuous: it was over before the loss"
    network.until(lambda s: s.epoch(SCOPE) == epoch + 1, 60)
    assert time.time() * 1000 >= pause.until_ms
    network.manager(primary)
