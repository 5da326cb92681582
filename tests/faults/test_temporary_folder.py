"""Processes that are killed leave nothing in the temporary folder. On real parts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer

from everlode.adapters.kafka_group import group_members
from everlode.stack import NativeStack
from everlode.stack.native.supervisor import save_options
from everlode.topics import Topology
from tests.support.processes.forked import CLI
from tests.support.world.region import Node, until

pytestmark = pytest.mark.timeout(240)
TOPOLOGY = Topology(regions=("eu", "us"), control_replication=1, control_min_insync=1)
COUNTERS = Path("/tmp")  # noqa: S108 - the JVM's own choice, whatever TMPDIR says


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of all that the test starts."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def stack(tmp_path: Path, temporary: Path) -> Iterator[NativeStack]:
    with NativeStack(TOPOLOGY, tmp_path / "stack", control_nodes=1, s3=None) as stack:
        stack.up()
        save_options(stack.data_dir, TOPOLOGY)
        yield stack


def java(stack: NativeStack) -> dict[str, int]:
    """Name → pid of the Java processes."""
    kinds = ("kafka", "control", "mirror")
    return {p.name: p.pid for p in stack.processes() if p.kind in kinds and p.pid is not None}


def unpacked(pid: int) -> set[Path]:
    """Native libraries that a JVM has taken out of its jars."""
    mapped = (Path(found.path) for found in psutil.Process(pid).memory_maps())
    return {path for path in mapped if "lz4-java" in path.name or "zstd-jni" in path.name}


def await_unpacked(name: str, pid: int) -> None:
    until(lambda: bool(unpacked(pid)), 60, f"{name} has unpacked a library")


def write_compressed(bootstrap: str) -> None:
    """What makes a broker, and the mirrors that copy it, unpack their libraries."""
    for kind in ("lz4", "zstd"):
        producer = Producer({"bootstrap.servers": bootstrap, "compression.type": kind})
        for _ in range(100):
            producer.produce("eu.1.receipts", b"x" * 100, b"k")
        assert producer.flush(20) == 0


def projector(stack: NativeStack, folder: Path) -> Node:
    """A projector whose Faust app is at work."""
    topology = folder / "topology.yaml"
    topology.write_text(TOPOLOGY.model_dump_json())
    arguments = [
        "projector", "run", "--region", "eu", "--node-id", "eu-proj-1",
        "--dir", str(stack.data_dir),
    ]  # fmt: skip
    node = Node(CLI, arguments, folder / "eu-proj-1.log", {"EVERLODE_TOPOLOGY": str(topology)})
    assert stack.endpoints is not None
    bootstrap = stack.endpoints.regions["eu"].kafka_bootstrap
    until(lambda: group_members(bootstrap, "projector.eu.g1") == 1, 60, "it is in its group")
    return node


def test_killed_jvms_and_projectors_leave_nothing(
    stack: NativeStack, tmp_path: Path, temporary: Path
) -> None:
    assert stack.endpoints is not None
    node = projector(stack, tmp_path)
    write_compressed(stack.endpoints.regions["eu"].kafka_bootstrap)
    pids = java(stack)
    for name in ("eu/kafka", "us/mirror"):
        await_unpacked(name, pids[name])
    for pid in pids.values():
        assert all(path.is_relative_to(stack.data_dir) for path in unpacked(pid))
    assert not set(map(str, pids.values())) & {p.name for p in COUNTERS.glob("hsperfdata_*/*")}
    node.kill()
    for name in ("eu/kafka", "us/mirror"):
        stack.kill(name)
    stack.restart("eu/kafka")
    stack.restart("us/mirror")
    stack.down()
    assert list(stack.data_dir.rglob("*.so*")) == []
    assert os.listdir(temporary) == []
