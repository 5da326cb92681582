"""What operators ask for, on real parts: under load, with processes killed at every step.

All tests share one stack, in the order of this file; each leaves three healthy task managers, one
of them leading, and two coordinators. Throughout, a client submits tasks; at the end everything
that was acknowledged to it must be in the log, and no epoch may have two primaries.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from everlode.events.control import FreezeAsked, OperatorAnswered, ScopeAssigned
from everlode.sdk import MiningClient
from tests.support.processes.entries import await_entry
from tests.support.world.one_region import SCOPE, eventually, managers, submit
from tests.support.world.operated import RATE, Load, Operated, operated, well_before_and_after

pytestmark = pytest.mark.timeout(280)


def begin(network: Operated) -> None:
    """Two coordinators, and room for all that is submitted."""
    network.start_all()
    next(network.coordinators)
    network.coordinator()
    network.led()
    for name in (f"m{number}" for number in range(8)):
        with MiningClient(network.endpoints, "eu", name) as miner:
            miner.register_miner(["inference"], endpoint=name, max_concurrent=1000)
            miner.deposit_stake(10**12)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    with operated(tmp_path_factory.mktemp("operated"), begin) as network:
        yield network


network = pytest.fixture(well_before_and_after)


def test_switchover_under_load_loses_nothing_and_clients_see_no_error(network: Operated) -> None:
    old, epoch = network.primary, network.state.epoch(SCOPE)
    load = Load(network.client)
    load.start()
    time.sleep(2)
    code, wish = network.scope("switchover", SCOPE, "--wait", "--reason", "new disk")
    time.sleep(2)
    names = load.end()
    network.acknowledged += names
    assert (code, wish["outcome"], wish["operator"]) == (0, "done", "ann"), wish
    assert network.state.epoch(SCOPE) == epoch + 1
    assert network.primary == wish["target"] != old
    assert len(names) > RATE * 3, "vacuous: there was no load"
    # the old primary wrote nothing after the positions that it has given, the new one goes on there
    last = {p["partition"]: p["seq"] for p in wish["drained_to"]}
    by_epoch: dict[tuple[int, int], list[int]] = {}
    for partition, fact in network.log("eu.1.tasks"):
        by_epoch.setdefault((fact.envelope.epoch, partition), []).append(fact.envelope.seq)
    for partition, seq in last.items():
        assert by_epoch[epoch, partition][-1] == seq
        assert by_epoch[epoch + 1, partition][0] == seq + 1
    assert load.outage_s() < 30, "clients waited as long as they do at most"
    history = network.ask("scope", "history", SCOPE)["decisions"]
    assert history[-1]["reason"] == "switchover"


DYING = "tests.support.processes.dying_coordinator"
POINTS = (
    "before FreezeAsked", "after FreezeAsked", "before ScopeAssigned", "after ScopeAssigned",
    "before OperatorAnswered",
)  # fmt: skip
"""In the order in which one switchover comes to them."""


def test_coordinator_killed_at_every_step_is_followed_by_another(network: Operated) -> None:
    """One wish, and each coordinator that takes it over dies one step later."""
    epoch, target = network.state.epoch(SCOPE), network.others()[0]
    for node in [n for n in network.processes if n.startswith("eu-co-")]:
        network.signal(node, signal.SIGKILL)
        del network.processes[node]
    running: subprocess.Popen[bytes] | None = None
    for point in POINTS:
        dying = network.coordinator(module=DYING, die=point)
        if running is None:
            await_entry(network.path(dying), "ProcessReady")
            running = network.asked("scope", "switchover", SCOPE, "--to", target, "--wait",
                                    "--timeout", "120")  # fmt: skip
        killed = network.processes.pop(dying).wait(60)
        assert killed == -signal.SIGKILL, f"vacuous: {dying} was not killed {point}"
    network.coordinator()
    assert running is not None
    code, wish = network.answer(running)
    assert (code, wish["outcome"]) == (0, "done"), wish
    assert (network.primary, network.state.epoch(SCOPE)) == (target, epoch + 1)
    of_wish = [d for d in network.of_control(FreezeAsked) if d.operation_id == wish["operation"]]
    assert len(of_wish) == 1
    network.coordinator()


def test_of_two_operators_the_second_is_shown_the_first(network: Operated) -> None:
    with network.without_coordinators():
        code, first = network.scope("switchover", SCOPE, "--timeout", "120", by="ann")
        assert (code, first["outcome"]) == (0, "open")
        refused = network.scope("drain", network.primary, by="bob")
        (running,) = network.status().document["running"]
        repeat = network.scope("switchover", SCOPE, "--id", first["operation"], by="ann")
        other = network.scope("switchover", SCOPE, "--id", first["operation"],
                              "--to", network.others()[0])  # fmt: skip
    assert (running["what"], running["about"], running["by"]) == ("switchover", SCOPE, "ann")
    assert (refused.code, refused.document["error"]["code"]) == (11, "locked")
    message = refused.document["error"]["message"]
    assert "switchover by ann" in message
    assert first["operation"] in message
    assert (repeat.code, repeat.document["operation"]) == (0, first["operation"])
    assert (other.code, other.document["error"]["code"]) == (1, "other_content")
    network.until(lambda s: s.wishes.get(first["operation"]).outcome == "done")  # type: ignore[union-attr]
    mine = [d for d in network.of_control(OperatorAnswered) if d.operation_id == first["operation"]]
    assert len(mine) == 1
    decided = [d for d in network.of_control(ScopeAssigned) if d.operation_id == first["operation"]]
    assert len(decided) == 1, "a repeated wish is carried out once"


def test_drained_node_gives_up_all_takes_no_more_and_cannot_be_chosen(network: Operated) -> None:
    node = network.primary
    eventually(lambda: node in managers(network).values())
    code, wish = network.scope("drain", node, "--wait", "--id", "x" * 320)
    assert (code, wish["outcome"]) == (0, "done"), wish
    assert network.primary != node
    assert network.state.nodes[node].status == "draining"
    assert node not in managers(network).values()
    # it takes no more, also when it was lost and its process starts anew
    was = network.state.incarnation(node)
    network.signal(node, signal.SIGKILL)
    network.until(lambda s: s.nodes[node].status == "lost")
    network.manager(node)
    network.until(lambda s: s.incarnation(node) != was)
    assert network.state.nodes[node].status == "draining"
    before = len(managers(network))
    network.acknowledged += submit(network.client, [f"eu/d{time.monotonic_ns()}-{i}"
                                                    for i in range(30)])  # fmt: skip
    eventually(lambda: len(managers(network)) >= before + 30)
    assert node not in managers(network).values()
    # nor can it be promoted, and nothing is written when that is asked
    at = network.state.wishes
    for verb in ("switchover", "failover"):
        code, document = network.scope(verb, SCOPE, "--to", node)
        error = document["error"]
        assert (code, error["code"]) == (14, "not_eligible"), error
        assert error["message"] == f"{node} cannot lead {SCOPE}: it is draining"
        why = {n["node_id"]: n["excluded"] for n in error["candidates"]}
        assert why == {n: "it is draining" if n == node else "" for n in network.others()}
        assert node in error["hint"]
    assert network.state.wishes == at
    code, wish = network.scope("rejoin", node, "--wait")
    assert (code, wish["outcome"]) == (0, "done"), wish
    code, document = network.scope("rejoin", node)
    assert (code, document["error"]["code"]) == (14, "not_away")


def test_names_that_are_not_there_end_with_10_and_a_dry_run_asks_for_nothing(
    network: Operated,
) -> None:
    before = network.state.wishes
    for words in (
        ("drain", "eu-tm-9"),
        ("switchover", SCOPE, "--to", "eu-mr-1"),
        ("failover", "task-manager/mars"),
    ):
        code, document = network.scope(*words)
        assert (code, document["error"]["code"]) == (10, "not_found"), words
    for words in (("--id", "a\nb"), ("--id", "x" * 321), ("--reason", "\x1b[2J")):
        code, document = network.scope("pause", SCOPE, *words)
        assert (code, document["error"]["code"]) == (1, "bad_field"), words
    code, document = network.scope("resume", SCOPE)
    assert (code, document["error"]["code"]) == (14, "not_paused")
    for verb, names in (
        ("switchover", ["Freeze", "Await", "Flip", "Await", "Answer"]),
        ("failover", ["Move", "Flip", "Await", "Answer"]),
    ):
        code, document = network.scope(verb, SCOPE, "--dry-run")
        assert (code, [s["step"] for s in document["steps"]]) == (0, names)
    code, document = network.scope("drain", network.primary, "--dry-run")
    assert [s["step"] for s in document["steps"]][:4] == ["Move", "Freeze", "Await", "Flip"]
    assert network.state.wishes == before


def test_failover_of_a_primary_that_is_well_loses_nothing(network: Operated) -> None:
    old, epoch = network.primary, network.state.epoch(SCOPE)
    load = Load(network.client)
    load.start()
    time.sleep(1)
    code, wish = network.scope("failover", SCOPE, "--wait")
    assert (code, wish["outcome"]) == (0, "done"), wish
    assert network.state.epoch(SCOPE) == epoch + 1
    assert network.primary != old
    assert network.state.scopes[SCOPE].decision.reason == "forced"
    network.until(lambda s: s.nodes[old].status == "healthy", 60)  # it was well: it comes back
    network.acknowledged += load.end()
