"""Two processes with one node id: one is refused, or takes over for good; never both lead."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from everlode.sdk import MiningClient
from tests.support.processes.asking_node import SCOPE
from tests.support.world.region import Node, Region, until

pytestmark = pytest.mark.timeout(180)
FENCE_S = 3.0
FAST = {
    "EVERLODE_FENCE_AFTER_MS": str(int(FENCE_S * 1000)),
    "EVERLODE_CONTROL_ELECTION_MS": "1000",
    "EVERLODE_RENEW_MS": "300",
}
LOCKED = 11


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in FAST.items():
            patch.setenv(name, value)
        with Region(tmp_path_factory.mktemp("names")) as made:
            yield made


def ended(node: Node, code: int, *said: str) -> None:
    """It has ended so, and its log holds these texts."""
    node.process.wait(60)
    log = node.log.read_text()
    assert node.process.returncode == code, log
    for text in said:
        assert text in log


Start = Callable[[Region, str], Node]
KINDS: dict[str, Start] = {
    "miner-registry": lambda region, name: region.node("miner-registry", name),
    "coordinator": lambda region, name: region.coordinator(name),
    "projector": lambda region, name: region.process("projector", name),
    "detector": lambda region, name: region.process("detector", name),
}


@pytest.mark.parametrize("kind", KINDS)
def test_second_process_of_a_name_is_refused_while_the_first_lives(
    region: Region, kind: str
) -> None:
    name = f"eu-{kind}-twice"
    first = KINDS[kind](region, name)
    first.ready()
    second = KINDS[kind](region, name)
    pid = f"as process {first.process.pid} "
    ended(second, LOCKED, f"{name} runs already, in eu on ", pid, "--node-id")
    assert first.process.poll() is None
    first.kill()
    third = KINDS[kind](region, name)
    third.ready()
    third.kill()


def test_two_that_start_at_once_one_is_refused(region: Region) -> None:
    both = [region.node("validator", "eu-vd-race") for _ in range(2)]
    until(lambda: any(node.process.poll() is not None for node in both), 60, "one ends")
    (lost,) = [node for node in both if node.process.poll() is not None]
    ended(lost, LOCKED, "runs already")
    (won,) = [node for node in both if node is not lost]
    won.ready()
    won.kill()


def test_successor_leads_in_the_same_epoch_after_a_kill(region: Region) -> None:
    first = region.leader("miner-registry", "miners", "eu-mr-again")
    first.kill()
    second = region.node("miner-registry", "eu-mr-again")
    second.leads(region.follower.state.epoch("miner-registry/eu"))
    with MiningClient(region.endpoints, "eu", "m-again") as client:
        assert client.register_miner(["inference"], endpoint="x").outcome == "done"
    second.kill()


@contextmanager
def asking(region: Region, file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that asks whether it leads; what it writes on stderr is beside `file`."""
    words = [str(region.folder / "stack"), "eu-rd-asks", str(int(FENCE_S * 1000)), str(file)]
    program = [sys.executable, "-m", "tests.support.processes.asking_node", *words]
    with file.with_suffix(".log").open("wb") as log, subprocess.Popen(program, stderr=log) as made:
        try:
            yield made
        finally:
            made.kill()


def yes(file: Path) -> list[tuple[int, int]]:
    """When it was asked and answered, of each time that it led."""
    lines = file.read_text().splitlines()[1:-1] if file.exists() else []
    return [(int(before), int(after)) for before, after, _ in map(str.split, lines)]


def test_stopped_process_is_taken_over_and_fences_itself_and_never_both_hear_yes(
    region: Region, tmp_path: Path
) -> None:
    one, two = tmp_path / "first", tmp_path / "second"
    with asking(region, one) as first:
        until(lambda: one.exists(), 40, "it has joined")
        epoch = region.assign("rewards", "eu-rd-asks")
        until(lambda: len(yes(one)) > 10, 40, "the first leads")
        first.send_signal(signal.SIGSTOP)
        with asking(region, two) as second:
            until(lambda: len(yes(two)) > 10, 60, "the second leads")
            region.follower.wait_for(
                lambda s: s.nodes["eu-rd-asks"].process_id == str(second.pid), 20
            )
            first.send_signal(signal.SIGCONT)
            assert first.wait(60) == 1
            assert "another one has taken its name" in one.with_suffix(".log").read_text()
            mark = time.monotonic_ns()
            until(lambda: yes(two)[-1][0] > mark, 20, "the second leads on")
            took_over = yes(two)[0][0]
            assert not [asked for asked, _ in yes(one) if asked >= took_over]
    assert region.follower.state.epoch(SCOPE) == epoch
