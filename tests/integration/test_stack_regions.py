"""A stack of one region, with a name of its own: its processes and clients know its topology."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from everlode.sdk import Endpoints, MiningClient
from everlode.settings.environment import VARIABLES
from tests.support.world.region import Node

pytestmark = pytest.mark.timeout(240)
CLI = (sys.executable, "-m", "everlode.cli.main")


def test_stack_of_one_region_is_served_by_its_own_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        if name not in ("EVERLODE_CACHE", "EVERLODE_MAVEN"):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "topology.yaml"
    file.write_text("partitions: 3\ncontrol_replication: 1\ncontrol_min_insync: 1\n")
    stack = ("--dir", str(tmp_path / "stack"))
    up = (*CLI, "stack", "up", "--regions", "north-1", "--s3", "none", *stack)
    made: list[Node] = []

    def start(name: str, *words: str) -> Node:
        arguments = [*words, "--region", "north-1", "--node-id", name, *stack]
        made.append(Node("everlode.cli.main", arguments, tmp_path / f"{name}.log", {}))
        return made[-1]

    try:
        with monkeypatch.context() as patch:
            patch.setenv("EVERLODE_TOPOLOGY", str(file))  # of a new stack only
            subprocess.run(up, check=True, capture_output=True, timeout=200)
        endpoints = Endpoints.load(tmp_path / "stack")
        assert endpoints.topology.regions == ("north-1",)
        assert endpoints.parts("north-1").partitions == 3
        rewards = start("rd", "node", "run", "reward-distributor")
        registry = start("mr", "node", "run", "miner-registry")
        start("co", "coordinator", "run")
        rewards.leads(1)
        registry.leads(1)
        with MiningClient(endpoints, "north-1", "m") as miner:
            answer = miner.register_miner(["inference"], endpoint="x")
        assert answer.facts[0].topic == "north-1.1.miners"
        doctor = subprocess.run((*CLI, "stack", "doctor", *stack), check=False, timeout=60)
        assert doctor.returncode == 0
    finally:
        for node in made:
            node.kill()
        subprocess.run((*CLI, "stack", "down", *stack), check=True, capture_output=True, timeout=90)
