"""What each way of acknowledging in Faust commits when record 50 of 100 fails, on a real broker.

If a losing way stops to lose, Faust has changed: read its notes before trusting it. If ours loses,
nothing may be released.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from everlode.adapters.kafka import Reader
from tests.support.world.projected import Lab

pytestmark = pytest.mark.timeout(180)
PATTERNS = "tests.support.processes.ack_patterns"
TOPIC = "eu.1.receipts"
"""A topic of one partition that nothing else here writes."""
LOSING = ("plain", "crashing_supervisor", "noack_ack", "concurrency", "take_raise", "take_crash")
HOLDING = {"noack_crash": 50, "each_batch": 50, "two_unacked": 50}
"""Pattern → the most that may be committed: what was before the failure."""


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Pattern → committed offset after its worker has met the failure and was stopped."""
    with Lab(tmp_path_factory.mktemp("acks")) as lab:
        for number in range(100):
            lab.put(TOPIC, "k", str(number).encode())
        lab.flush()
        log = lab.folder / "workers.log"
        with log.open("wb") as out:
            workers = [
                subprocess.Popen(
                    [sys.executable, "-m", PATTERNS, name, lab.bootstrap, TOPIC],
                    stdout=out, stderr=out,
                )
                for name in (*LOSING, *HOLDING)
            ]  # fmt: skip
            try:
                for worker in workers:
                    worker.wait(120)
            finally:
                for worker in workers:
                    worker.kill()
                    worker.wait()
        found = {}
        for name in (*LOSING, *HOLDING):
            reader = Reader(lab.bootstrap, name)
            found[name] = reader.committed([(TOPIC, 0)])[TOPIC, 0]
            reader.close()
        print(found, log.read_text())
        yield found


@pytest.mark.parametrize("pattern", LOSING)
def test_pattern_commits_past_the_failure_and_loses(
    committed: dict[str, int], pattern: str
) -> None:
    assert committed[pattern] > 50


@pytest.mark.parametrize("pattern", HOLDING)
def test_pattern_holds_the_offset_at_the_failure(committed: dict[str, int], pattern: str) -> None:
    assert 0 <= committed[pattern] <= HOLDING[pattern]
