"""A user's suite on our fixtures, as docs/testing.md has it: its own region, and one that runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from everlode.errors import NotFound, Refusal
from everlode.events.health import NodeLost
from everlode.events.tasks import TaskSubmitted
from everlode.pytest_plugin.network import Faults, RecoveryEvents, Region, running
from everlode.sdk import EventConsumer, EventProducer
from everlode.stack import StackProvider
from everlode.stack.doctor import examine
from tests.support.world.projected import histories

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "test_mining_service.py"
FIRST = """
def test_first(everlode_region, everlode_client):
    answer = everlode_client.submit_task("of-the-suite", "inference", "s3://w", "0" * 64, 64)
    assert (answer.outcome, everlode_region.stack) == ("done", None)

def test_faults_are_refused(everlode_faults):
    everlode_faults.kill("eu/tm-1")
"""
pytestmark = pytest.mark.timeout(400)


def suite(folder: Path, *words: str) -> str:
    """Run pytest as a user does, in a folder of its own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "everlode.pytest_plugin", "-p", "no:cacheprovider",
         "--rootdir", str(folder), *words],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_the_example_suite_passes_on_a_region_of_its_own(tmp_path: Path) -> None:
    printed = suite(tmp_path, str(EXAMPLE))
    assert " 1 passed" in printed, printed
    code = [line for line in EXAMPLE.read_text().splitlines() if line.strip()]
    assert len(code) < 40


def test_a_suite_takes_a_running_region_and_breaks_nothing_in_it(
    everlode_region: Region, tmp_path: Path
) -> None:
    assert everlode_region.stack is not None
    (tmp_path / "test_first.py").write_text(FIRST)
    given = str(everlode_region.stack.data_dir)
    printed = suite(tmp_path, "--everlode-stack", given, "test_first.py")
    assert " 1 failed, 1 passed" in printed, printed
    assert "faults are for a region that the suite has started" in printed, printed
    everlode_region.await_led(["tasks"], 1)


def test_a_region_that_is_not_there_is_named(everlode_region: Region) -> None:
    assert everlode_region.stack is not None
    with pytest.raises(NotFound, match="no region ap"):
        running(everlode_region.stack.data_dir, "ap")
    with pytest.raises(NotFound, match="no component 'task'"):
        everlode_region.primary("task")


def test_what_a_test_has_broken_is_mended_and_events_are_given_once(
    everlode_region: Region, everlode_events: RecoveryEvents
) -> None:
    stack = everlode_region.stack
    assert stack is not None
    faults = Faults(everlode_region)
    with pytest.raises(NotFound, match="no process eu/tm-9"):
        faults.kill("eu/tm-9")
    lost = everlode_region.primary("rewards")
    faults.kill(lost)
    faults.pause("eu/val-2")
    node = lost.replace("/", "-")
    found = everlode_events.wait(NodeLost, where=lambda told: told.subject == node)
    with pytest.raises(TimeoutError, match=r"no such NodeLost within 1 s; .*: .*NodeLost"):
        everlode_events.wait(NodeLost, 1, where=lambda told: told.data is found.data)
    faults.heal()
    status = {one.name: one.exit_status for one in stack.processes()}
    assert (status[lost], status["eu/val-2"]) == (None, None)
    faults.heal()  # idempotent


def test_faults_of_a_given_region_are_refused(everlode_region: Region) -> None:
    with pytest.raises(Refusal, match="started"):
        Faults(everlode_region._replace(stack=None)).kill("eu/kafka")


def test_a_producer_appends_what_a_consumer_reads(
    everlode_small_stack: StackProvider, everlode_producer: Callable[[str], EventProducer]
) -> None:
    endpoints = everlode_small_stack.endpoints
    assert endpoints is not None
    submitted = next(f.data for f in histories()["tasks"] if isinstance(f.data, TaskSubmitted))
    for name in ("eu/p-1", "eu/p-2"):  # the second fences the first
        everlode_producer("tasks").emit(name, submitted).result(30)
    with EventConsumer(endpoints, "eu", ["tasks"]) as log:
        got = []
        for received in log:  # marks of the two epochs come between
            if isinstance(received.fact.data, TaskSubmitted):
                got.append(received.fact.envelope.aggregate_id)
            if len(got) == 2:
                break
    assert sorted(got) == ["eu/p-1", "eu/p-2"]


def test_small_stack_is_one_region_with_its_topics(everlode_small_stack: StackProvider) -> None:
    endpoints = everlode_small_stack.endpoints
    assert endpoints is not None
    assert set(endpoints.regions) == {"eu"}
    assert endpoints.s3 is None
    assert examine(everlode_small_stack.topology, endpoints).green
