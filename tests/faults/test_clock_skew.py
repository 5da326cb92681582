"""A primary whose clock is set an hour wrong while it works: no fact of its is stamped so."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from everlode.events import commands as c
from everlode.events.stamp import MAX_AHEAD_MS, millis_of
from tests.support.processes.outputs import printed_by
from tests.support.world.region import Region, until

pytestmark = pytest.mark.timeout(180)
HOUR = 3_600_000


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    with Region(tmp_path_factory.mktemp("clocks")) as made:
        made.leader("task-manager", "tasks", "eu-tm-right")
        made.leader("reward-distributor", "rewards", "eu-rd-right")
        made.process("projector", "eu-pj-right").ready()
        yield made


def clocks(region: Region) -> list[dict[str, object]]:
    """What `everlode status` shows of wrong clocks."""
    words = ["status", "clusters", "rewards", "eu", "--dir", str(region.folder / "stack")]
    code, out = printed_by(words)
    found: list[dict[str, object]] = json.loads(out)["clocks"]
    assert code == (20 if found else 0)
    return found


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])
def test_primary_whose_clock_is_set_wrong_stops_and_works_again_without_a_restart(
    region: Region, tmp_path: Path, step: int
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("0")
    name = f"eu-mr-{'ahead' if step > 0 else 'behind'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERLODE_CLOCK_WRONG_FILE", str(wrong))
        node = region.leader("miner-registry", "miners", name)
    with region.client(f"m-{name}") as miner:
        miner.register_miner(["inference"], endpoint="x")
        wrong.write_text(str(step))
        node.await_entry("SteppedDown", scope="miner-registry/eu")
        waiting = miner.send(f"eu/m-{name}", c.DepositStake(amount_micro=5), timeout_s=100)
        until(lambda: clocks(region) != [], 60, "status shows it")
        (shown,) = clocks(region)
        assert (shown["finding"], shown["node_id"], shown["leads"]) == ("ClockSkew", name, False)
        assert not waiting.done()
        assert node.process.poll() is None
        wrong.write_text("0")
        assert waiting.result(100).outcome == "done"
        until(lambda: clocks(region) == [], 60, "status shows that it is right again")
    latest = time.time_ns() // 1_000_000 + MAX_AHEAD_MS
    assert all(millis_of(fact.envelope.stamp) < latest for fact in region.facts("miners"))
    node.kill()
