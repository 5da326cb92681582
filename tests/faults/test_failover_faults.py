"""Failover inside a region, on real parts and real processes: kills, stops, and who may write.

Every test ends with the checkers: `two_primaries_in_epoch`, `epoch_regression` and `snapshot_gap`
read the task facts from their beginning, `lost_write` compares them with what was answered.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from everlode.adapters.kafka_control import ControlLog
from everlode.errors import Refusal
from everlode.events import commands as c
from everlode.events.control import ScopeAssigned
from everlode.events.health import NodeLost
from everlode.sdk import MiningClient
from tests.support.processes.entries import await_entry
from tests.support.world.one_region import SCOPE, Network, check, eventually, managers, submit

pytestmark = pytest.mark.timeout(280)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path) as made:
        yield made


def with_tasks(network: Network, count: int = 30) -> tuple[MiningClient, list[str]]:
    """A miner with room, and tasks that are all assigned; none is solved."""
    network.until(lambda s: s.epoch(SCOPE) == 1 and s.epoch("miner-registry/eu") == 1)
    with MiningClient(network.endpoints, "eu", "m1") as miner:
        miner.register_miner(["inference"], endpoint="m1", max_concurrent=1000)
        miner.deposit_stake(10**12)
    client = MiningClient(network.endpoints, "eu", "c1")
    names = submit(client, [f"eu/t{i:03}" for i in range(count)])
    eventually(lambda: len(managers(network)) == count)
    return client, names


STOPPING = "tests.support.processes.stopping_coordinator"
HALF = 500_000
"""Progress in ppm."""
ROOM = 22
"""Tasks that one task manager takes: two take all that there is after the first loss."""


def keeps_what_was_reported(miner: MiningClient, task: str) -> None:
    """Progress and checkpoint of the first attempt are those of the second."""
    with pytest.raises(Refusal, match=f"progress is already {HALF} ppm"):
        miner.report_progress(task, 2, HALF - 1)
    again = miner.report_progress(task, 2, HALF, checkpoint_uri="s3://half", lease=timedelta())
    assert again.facts == (), "it had to be told anew"
    miner.close()


def candidates(network: Network) -> list[tuple[str, str]]:
    """(node, why it is not eligible), the best first."""
    found = network.ask("scope", "explain", SCOPE)["candidates"]
    return [(n["node_id"], n["excluded"]) for n in found]


def test_killed_primary_is_replaced_and_its_tasks_migrate(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLODE_MAX_CONCURRENT", str(ROOM))
    network.start_all()
    client, names = with_tasks(network)
    before = [t for t, node in managers(network).items() if node == "eu-tm-1"]
    assert before, "vacuous: the primary managed nothing"
    miner = MiningClient(network.endpoints, "eu", "m1")
    miner.report_progress(before[0], 1, HALF, checkpoint_uri="s3://half")
    best_first = [("eu-tm-2", ""), ("eu-tm-3", ""), ("eu-tm-1", "it leads")]
    # who has read further comes first: both have, a moment after the progress
    eventually(lambda: candidates(network) == best_first)
    foreseen = network.ask("scope", "plan", SCOPE)["steps"]
    assert [s["step"] for s in foreseen] == ["Decide", "AwaitFence", "Migrate", "Finish"]
    assert sorted(t for t, _ in foreseen[2]["moves"]) == sorted(before)
    network.signal("eu-tm-1", signal.SIGKILL)
    during = submit(client, [f"eu/during{i}" for i in range(6)])  # waits; no error
    ended = network.ended("eu-tm-1")
    during += submit(client, [f"eu/after{i}" for i in range(2 * ROOM - 36)])
    names += during
    assert (ended.recovery_action, ended.new_primary) == ("secondary-promoted", "eu-tm-2")
    assert ended.success
    assert ended.migrated_tasks == len(before)
    assert ended.estimated_recovery_ms is None  # nothing was measured before
    assert ended.detect_ms > 0
    names += submit(client, [f"eu/waits{i}" for i in range(6)])  # nobody has room for these
    keeps_what_was_reported(miner, before[0])
    full = {"eu-tm-2": ROOM, "eu-tm-3": ROOM}
    eventually(lambda: Counter(managers(network).values()) == full)
    state = network.control.state
    assert (state.epoch(SCOPE), state.scopes[SCOPE].primary) == (2, "eu-tm-2")
    assert state.nodes["eu-tm-1"].status == "lost"
    verdicts = [f for _, f in network.log("eu.1.health", 1) if isinstance(f.data, NodeLost)]
    assert {f.envelope.aggregate_id for f in verdicts} == {"eu-tm-1"}
    assert state.scopes[SCOPE].decision.verdict_id == verdicts[0].envelope.event_id

    # a late decision, based on the epoch before, is void
    assert network.endpoints.control_bootstrap is not None
    late = ScopeAssigned(
        scope_name=SCOPE, new_epoch=2, primary_node="eu-tm-1", region="eu", reason="forced",
        based_on=1, based_on_epoch=1,
    )  # fmt: skip
    log = ControlLog(network.endpoints.control_bootstrap)
    at = log.append(SCOPE, late, node_id="test", scope="coordinator/eu")
    state = network.until(lambda s: s.position >= at)
    assert state.scopes[SCOPE].primary == "eu-tm-2"
    assert state.void[-1].offset == at

    history = network.ask("scope", "history", SCOPE)["decisions"]
    assert [(d["epoch"], d["primary"], d["void"] is None) for d in history] == [
        (1, "eu-tm-1", True),
        (2, "eu-tm-2", True),
        (2, "eu-tm-1", False),
    ]

    # it comes back as a secondary, and is healthy after a while; a second loss is handled anew
    network.start("eu-tm-1", "node", "run", "task-manager", "--priority", "9")
    network.until(lambda s: s.nodes["eu-tm-1"].status == "healthy")
    eventually(lambda: Counter(managers(network).values())["eu-tm-1"] == 6)
    for answer in [client.send(task, c.CancelTask(reason="room")) for task in during]:
        assert answer.result(60).outcome == "done"
    network.signal("eu-tm-2", signal.SIGKILL)
    second = network.ended("eu-tm-2")
    assert second.new_primary == "eu-tm-1"
    assert (second.estimated_recovery_ms, second.estimate_cases) == (None, 1), "one says nothing"
    names += submit(client, ["eu/last"])
    client.close()
    check(network, names)


def test_coordinator_that_wakes_between_plan_and_write_deposes_nobody(network: Network) -> None:
    """The first one stops before it asks whether it leads, the second after it has asked."""
    network.start_all(coordinator=STOPPING, die="plan")
    client, names = with_tasks(network)
    network.start("eu-co-2", "coordinator", "run", module=STOPPING, die="write")
    await_entry(network.path("eu-co-2"), "ProcessReady")

    # the first plans, and is stopped; the second decides, and is stopped before it writes
    network.signal("eu-tm-1", signal.SIGKILL)
    first = network.until(lambda s: s.epoch("coordinator/eu") == 2)
    assert (first.epoch(SCOPE), first.scopes["coordinator/eu"].primary) == (1, "eu-co-2")
    await_entry(network.path("eu-co-2"), "Note", text="stopped")
    # the first wakes as one that leads no more, takes over, and decides anew
    network.signal("eu-co-1", signal.SIGCONT)
    assert network.ended("eu-tm-1").new_primary == "eu-tm-2"
    leads = network.control.state.scopes[SCOPE]
    assert (leads.epoch, leads.primary) == (2, "eu-tm-2")
    assert len(network.reported("eu-co-1", "Decided", scope=SCOPE, epoch=2)) == 1
    assert not network.control.state.void, "it wrote what it had planned before"
    # the second wakes, and what it writes is void
    network.signal("eu-co-2", signal.SIGCONT)
    network.until(lambda s: bool(s.void))
    names += submit(client, [f"eu/after{i}" for i in range(20)])
    leads = network.control.state.scopes[SCOPE]
    assert (leads.epoch, leads.primary) == (2, "eu-tm-2")
    history = network.ask("scope", "history", SCOPE)["decisions"]
    assert [(d["decided_by"], d["epoch"], d["coordinator_epoch"]) for d in history] == [
        ("eu-co-1", 1, 1), ("eu-co-1", 2, 3), ("eu-co-2", 2, 2),
    ]  # fmt: skip
    assert [d["void"] for d in history] == [None, None, "based on epoch 1, the current one is 2"]
    client.close()
    check(network, names)


def test_primary_without_the_control_log_stops_and_goes_on_with_it(network: Network) -> None:
    network.start_all()
    client, names = with_tasks(network)
    control = next(p.name for p in network.stack.processes() if p.kind == "control")
    before = len(network.reported("eu-tm-1", "SteppedDown", scope=SCOPE))
    network.stack.pause(control)
    eventually(lambda: len(network.reported("eu-tm-1", "SteppedDown", scope=SCOPE)) > before, 30)
    quiet = len(network.log("eu.1.tasks"))
    late = client.send("late", c.CancelTask(reason="r"), timeout_s=90)
    time.sleep(3)
    assert len(network.log("eu.1.tasks")) == quiet, "it writes without a lease"
    assert not late.done()
    network.stack.resume(control)
    assert late.result(90).outcome == "refused"  # answered at last: there is no such task
    names += submit(client, ["eu/last"])
    client.close()
    check(network, names)
