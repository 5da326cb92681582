"""Examples that are no service: miners in Go, Node, on asyncio, a dashboard; on a real region."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

from everlode.pytest_plugin.network import Region
from everlode.sdk import MiningClient
from tests.support.facts.pages import ROOT, typed
from tests.support.processes.chromium import chromium, opened
from tests.support.processes.shell import run
from tests.support.world.serving import Server

PAGE = ROOT / "docs/howto/write-in-another-language.md"
COMMANDS = {one.line.split()[1].rpartition("/")[2]: one for one in typed(PAGE.read_text())}
TYPES = {"go": "inference", "node": "evaluation"}
"""Language → the type of task that its miner takes: so each gets its own task."""
CODE_LINES = 30
pytestmark = pytest.mark.timeout(600)  # the first time Go builds its libraries


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """What a reader has of the repository: the examples and the schemas."""
    for name in ("examples", "schemas/everlode/events/past"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("node_modules"))
    return tmp_path


@pytest.mark.parametrize("language", TYPES)
def test_miner_in_another_language_solves_a_task(
    everlode_region: Region, everlode_client: MiningClient, desk: Path, language: str
) -> None:
    broker = everlode_region.endpoints.regions["eu"].kafka_bootstrap
    task = everlode_client.submit_task(
        f"for-{language}", TYPES[language], "s3://work/1", "0" * 64, 64
    )
    run([COMMANDS[language]], desk, 200, BROKER=broker)
    changes = everlode_client.watch(task.aggregate_id, task)
    assert next(one for one in changes if one.kind == "TaskSolved")


def test_miner_on_asyncio_solves_several_tasks_at_once(
    everlode_region: Region, everlode_client: MiningClient
) -> None:
    assert everlode_region.stack is not None
    words = [everlode_region.stack.data_dir, "eu", "async-1"]
    program = [sys.executable, str(ROOT / "examples/async_miner.py"), *map(str, words)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "async-1 is registered\n"
            for n in range(2):
                name = f"for-async-{n}"
                everlode_client.submit_task(name, "data-processing", "s3://w", "0" * 64, 64)
            said = {process.stdout.readline().strip() for _ in range(2)}
        finally:
            process.kill()
    assert said == {f"async-1 solved eu/for-async-{n}" for n in range(2)}


@pytest.fixture
def dashboard(everlode_region: Region, tmp_path: Path) -> Iterator[str]:
    """Address of the example, over a server of the region."""
    assert everlode_region.stack is not None
    program = [sys.executable, str(ROOT / "examples/dashboard.py")]
    with Server(everlode_region.stack.data_dir, tmp_path / "log", "--insecure") as server:
        process = subprocess.Popen([*program, server.address], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait(10)
            process.stdout.close()


def test_dashboard_of_thirty_lines_shows_what_happens(
    dashboard: str, everlode_client: MiningClient
) -> None:
    code = (ROOT / "examples/dashboard.py").read_text().partition("\nPAGE = ")[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= CODE_LINES
    with chromium() as browser:
        page, complaints = opened(browser)
        with page.expect_response(f"{dashboard}/events?of=tasks"):
            page.goto(f"{dashboard}/?of=tasks")
        everlode_client.submit_task("seen", "training", "s3://work/1", "0" * 64, 64)
        shown = page.locator("li", has_text="everlode.TaskSubmitted eu/seen")
        expect(shown).to_have_count(1, timeout=30_000)  # a barrier a second comes above it
        assert complaints == []
        page.close()


def test_dashboard_is_asked_by_its_own_name_only(dashboard: str) -> None:
    port = dashboard.rpartition(":")[2]
    with pytest.raises(HTTPError, match="421"):
        urlopen(f"http://localhost:{port}/")
    with urlopen(dashboard) as answer:  # noqa: S310 - an address of ours
        assert b"EventSource" in answer.read()
