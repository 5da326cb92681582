"""A region of real processes: who is stopped is named, who fails is ejected for a while."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from everlode.backup.keys import KeyRing
from everlode.balancing.ejection import BASE_MS, FAILURES
from everlode.cli.main import run
from everlode.events.miners import PerformanceRecorded
from everlode.events.tasks import TaskAssigned
from everlode.health.weights import GATE
from everlode.topics.partition import partition_of
from tests.support.processes.outputs import fitting
from tests.support.world.region import PARTITIONS, Node, Region, until

pytestmark = pytest.mark.timeout(300)
SHA = "ab" * 32


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    """All services of a region; its coordinator decides who leads."""
    with Region(tmp_path_factory.mktemp("balance"), s3="auto") as found:
        KeyRing(found.folder / "keys").create()
        found.coordinator("eu-co-1")
        found.process("detector", "eu-det-1")
        found.process("projector", "eu-pj-1")
        for kind, node_id in (
            ("miner-registry", "eu-mr-1"), ("task-manager", "eu-tm-1"),
            ("validator", "eu-val-1"), ("reward-distributor", "eu-rd-1"),
        ):  # fmt: skip
            found.node(kind, node_id)
        yield found


@pytest.fixture(scope="module")
def spare(region: Region) -> Node:
    """A registry beside the one that leads."""
    return region.node("miner-registry", "eu-mr-2")


def place_of(miner: str) -> int:
    """The partition of a miner's facts."""
    return partition_of(f"eu/{miner}", PARTITIONS)


def asked(region: Region, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Exit code and document of `everlode health`."""
    capsys.readouterr()
    code = run(["health", "--json", "--dir", str(region.folder / "stack")])
    return code, json.loads(capsys.readouterr().out)


def test_health_of_a_running_stack_names_the_node_that_was_stopped(
    region: Region, spare: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, Any] = {}

    def scores() -> dict[str, float | None]:
        found["code"], found["body"] = asked(region, capsys)
        return {node["name"]: node["score"] for node in found["body"]["nodes"]}

    def whole() -> bool:
        nodes = scores()
        return len(nodes) == 6 and set(nodes.values()) == {1.0} and found["code"] == 0

    until(whole, 120, "every node is well")
    assert found["body"]["network"]["score"] > GATE
    spare.signal(signal.SIGSTOP)
    until(lambda: scores()["eu-mr-2"] == 0.0, 60, "the stopped one is not well")
    (component,) = (c for c in found["body"]["components"] if c["name"] == "miner-registry/eu")
    assert "eu-mr-2" in component["reason"]
    assert {n for n, score in scores().items() if score != 1.0} == {"eu-mr-2"}
    spare.signal(signal.SIGCONT)
    until(whole, 60, "it is taken back")
    led = next(s for s in region.follower.state.scopes.values() if s.scope == "miner-registry/eu")
    assert led.primary in ("eu-mr-1", "eu-mr-2")


TASKS, LARGE = 12, 40


def explained(region: Region, capsys: pytest.CaptureFixture[str], miner: str) -> dict[str, Any]:
    """What `everlode miner explain` prints."""
    capsys.readouterr()
    run(["miner", "explain", miner, "--json", "--dir", str(region.folder / "stack")])
    found: dict[str, Any] = fitting(("miner", "explain"), capsys.readouterr().out)
    return found


def test_miner_that_fails_at_once_is_ejected_and_comes_back_little_by_little(
    region: Region, capsys: pytest.CaptureFixture[str]
) -> None:
    def assigned(first: str) -> list[tuple[datetime, str]]:
        """When tasks of this kind of name were assigned, and to whom, in order."""
        return [
            (f.envelope.occurred_at, f.data.miner_id)
            for f in region.facts("tasks")
            if isinstance(f.data, TaskAssigned)
            and f.envelope.aggregate_id.startswith(f"eu/{first}")
        ]

    def given(first: str) -> list[str]:
        return [miner for _, miner in assigned(first)]

    def ejected_until() -> datetime:
        """By the time of the failure that ejected it, as the log has it."""
        failures = [
            f.envelope.occurred_at
            for f in region.facts("miners")
            if isinstance(f.data, PerformanceRecorded) and f.envelope.aggregate_id == "eu/bad"
        ]
        return failures[FAILURES - 1] + timedelta(milliseconds=BASE_MS)

    def submit(first: str, many: int) -> None:
        for n in range(many):
            client.submit_task(f"{first}{n}", "inference", "s3://x", SHA, 1)

    with ExitStack() as stack:
        client, bad, good = (stack.enter_context(region.client(n)) for n in ("c", "bad", "good"))
        for miner in (bad, good):
            miner.register_miner(["inference"], endpoint="x", max_concurrent=LARGE)
            miner.deposit_stake(10**9)
        work = stack.enter_context(bad.work())
        submit("fast", TASKS)
        failed = 0
        while failed < FAILURES:
            job = work.take(60)
            assert job is not None, f"it was given {failed} tasks only"
            job.give_up("it breaks")
            failed += 1
        until(lambda: explained(region, capsys, "bad").get("ejected") is True, 25, "it is ejected")
        # the manager reads that a little later: it has, once it knows a miner that came after it
        marks = (f"mark-{n}" for n in count())
        mark = next(n for n in marks if place_of(n) == place_of("bad"))
        with region.client(mark) as after:
            after.register_miner(["training"], endpoint="x", max_concurrent=1)
            after.deposit_stake(10**9)
        client.submit_task("read", "training", "s3://x", SHA, 1)
        until(lambda: given("read") == [f"eu/{mark}"], 30, "the manager has read it")
        submit("out", TASKS)  # it is idle, and the other one has all the work
        until(lambda: len(given("out")) == TASKS, 20, "they are assigned")
        over = ejected_until()  # a slow machine may not have assigned them all by then
        meanwhile = {miner for at, miner in assigned("out") if at < over}
        assert meanwhile == {"eu/good"}
        until(lambda: not explained(region, capsys, "bad")["ejected"], 60, "its time is over")
        submit("back", LARGE)
        until(lambda: "eu/bad" in given("back"), 30, "it is given work again")
        room = explained(region, capsys, "bad")["given_at_once"]
        held = len(explained(region, capsys, "bad")["working_on"])
        assert room < LARGE
        assert 0 < held <= room + TASKS
        until(lambda: explained(region, capsys, "bad")["given_at_once"] == LARGE, 90, "as before")


def printed(
    region: Region, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, dict[str, Any]]:
    """Exit code and document of a verb that has keys."""
    capsys.readouterr()
    place = ("--dir", str(region.folder / "stack"), "--keys", str(region.folder / "keys"))
    code = run([*words, "--json", *place])
    return code, json.loads(capsys.readouterr().out)


def test_recovery_is_held_while_a_service_of_its_region_is_not_led(
    region: Region, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last one: its recovery replaces the projection that the others look at."""
    assert printed(region, capsys, "backup", "create", "--region", "eu")[0] == 0
    (paying,) = (n for n in region.nodes if "eu-rd-1" in n.log.name)
    paying.kill()
    code, held = printed(region, capsys, "recover", "run", "--region", "eu")
    assert (code, held["held"]) == (3, True)
    (reason,) = held["reasons"]
    assert reason.startswith("services: ")
    assert "eu-rd-1" in reason
    assert held["services"]["score"] <= GATE
    assert all(part["success"] for part in held["components"]), "nothing else speaks against it"
    assert asked(region, capsys)[1]["network"]["score"] <= GATE
    region.node("reward-distributor", "eu-rd-1").ready()
    until(lambda: asked(region, capsys)[0] == 0, 60, "it leads again")
    code, done = printed(region, capsys, "recover", "run", "--region", "eu")
    assert (code, done["held"], done["reasons"]) == (0, False, [])
    assert done["services"]["score"] > GATE
    assert {e["name"] for e in done["services"]["evidence"]} >= {"rewards/eu", "coordinator/eu"}
