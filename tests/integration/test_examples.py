"""The example in Go, as its page has it, on a real region."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from everlode.pytest_plugin.network import Region
from everlode.sdk import MiningClient
from tests.support.facts.pages import ROOT, typed
from tests.support.processes.shell import run

PAGE = ROOT / "docs/howto/write-in-another-language.md"
COMMANDS = {one.line.split()[1].rpartition("/")[2]: one for one in typed(PAGE.read_text())}
TYPES = {"go": "inference"}
"""Language → the type of task that its miner takes."""
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
