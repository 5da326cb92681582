"""Three regions on real parts: one is killed as a whole, another's mirror stands still.

The session's stack, with a coordinator in each region for the time of this file; what is killed is
started again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from everlode.adapters.kafka_follower import ControlFollower
from everlode.avro.codec import Codec
from everlode.cli.main import run
from everlode.control.fold import ControlState
from everlode.control.sites import losses, suspicions
from everlode.events.base import Event
from everlode.events.health import LinkStale, RegionLost
from everlode.stack import NativeStack
from everlode.stack.native.members import commands_of
from everlode.stack.native.start import await_flows
from everlode.stack.services import counted
from everlode.topics.names import fact_topic
from tests.support.facts.whole_topic import records
from tests.support.world.region import until

pytestmark = pytest.mark.timeout(280)
REGIONS = ("eu", "us", "ap")
LOST_WITHIN_S = 20.0
"""10 s of silence, two barriers, the mirrors' and the control log's time."""
STALE_WITHIN_S = 12.0
SUSPECTED_S = 10.0
FLOWS_S = 60.0


class Network:
    """The stack, its control log, what its coordinators say."""

    def __init__(self, stack: NativeStack) -> None:
        self.stack = stack
        assert stack.endpoints is not None
        self.endpoints = stack.endpoints
        self.follower = ControlFollower(self.endpoints.control()).start()

    @property
    def control(self) -> ControlState:
        return self.follower.state

    def said(self, region: str, kind: type[Event]) -> list[tuple[str, Event]]:
        """(about whom, what) on a region's own health topic, in order."""
        parts = self.endpoints.parts(region)
        codec = Codec()
        facts = [
            codec.decode_fact(raw.value)
            for raw in records(parts.bootstrap, fact_topic(parts.origin, "health"))
        ]
        return [(f.envelope.aggregate_id, f.data) for f in facts if isinstance(f.data, kind)]

    def stale(self, region: str) -> set[str]:
        """Regions from which nothing comes, by the region's last word on each."""
        last = {r: d for r, d in self.said(region, LinkStale) if isinstance(d, LinkStale)}
        return {source for source, data in last.items() if not data.over}

    def hears_all(self, *regions: str) -> bool:
        """Whether these have said of both others that they hear them."""
        return all(
            len({r for r, _ in self.said(region, LinkStale)}) == 2 and not self.stale(region)
            for region in regions
        )

    def of(self, region: str) -> list[str]:
        """Names of a region's processes."""
        return [p.name for p in self.stack.processes() if p.name.startswith(f"{region}/")]


@pytest.fixture(scope="module")
def network(everlode_stack: NativeStack) -> Iterator[Network]:
    stack = everlode_stack
    commands = commands_of(counted({"coordinator": 1}, REGIONS), stack.data_dir)
    for command in commands:
        stack.run(command)
    made = Network(stack)
    with closing(made.follower):
        try:
            until(lambda: made.hears_all(*REGIONS), 60, "each region hears both others")
            yield made
        finally:
            for command in commands:
                stack.leave(command.name)
                stack.kill(command.name)
                stack.let_go(command.name)


def held(true: Callable[[], bool], for_s: float, what: str) -> None:
    """It is so all the time."""
    ends = time.monotonic() + for_s
    while time.monotonic() < ends:
        assert true(), what
        time.sleep(0.2)


def test_region_whose_mirror_stands_hears_nobody_and_nobody_is_lost(network: Network) -> None:
    """A cut one way: what us says still comes to the others."""
    network.stack.pause("us/mirror")
    try:
        both = {"eu", "ap"}
        until(lambda: network.stale("us") == both, STALE_WITHIN_S, "us says that both are stale")
        held(
            lambda: not any(suspicions(network.control, region) for region in REGIONS),
            SUSPECTED_S, "nobody is suspected: us is blind, and the others hear it",
        )  # fmt: skip
        assert not network.stale("eu") | network.stale("ap")
    finally:
        network.stack.resume("us/mirror")
    until(lambda: network.hears_all("us"), 30, "us hears both again")
    assert all(network.said(region, RegionLost) == [] for region in REGIONS)


def test_region_that_is_killed_as_a_whole_is_lost_by_the_two_others_and_comes_back(
    network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    names = network.of("us")
    assert set(names) == {"us/kafka", "us/postgres", "us/mirror", "us/co-1"}
    killed_at = time.monotonic()
    for name in names:
        network.stack.kill(name)
    until(lambda: "us" in losses(network.control), LOST_WITHIN_S, "a majority has lost us")
    until(
        lambda: all(network.said(r, RegionLost) for r in ("eu", "ap")),
        LOST_WITHIN_S - (time.monotonic() - killed_at), "both say so",
    )  # fmt: skip
    took_s = time.monotonic() - killed_at
    print(f"RegionLost on both logs {took_s:.1f} s after the kill")
    for region in ("eu", "ap"):
        ((about, lost),) = network.said(region, RegionLost)
        assert isinstance(lost, RegionLost)
        assert (about, lost.observers, lost.sites) == ("us", ("ap", "eu"), 3)
        assert (lost.over, lost.actionable) == (False, False)
    capsys.readouterr()
    folder = ["--dir", str(network.stack.data_dir), "--json"]
    assert run(["status", *folder]) == 20
    found = json.loads(capsys.readouterr().out)
    assert "us is lost: not heard by ap, eu" in found["problems"]
    assert {(link["reader"], link["source"]) for link in found["links"]} == {
        ("eu", "us"), ("ap", "us"),
    }  # fmt: skip
    assert run(["scope", "history", "coordinator/us", *folder]) == 0
    told = json.loads(capsys.readouterr().out)["suspicions"]
    first, *later = [(row["counts"], row["lost"]) for row in told]
    assert first == (True, False)
    assert set(later) == {(True, True)}  # what is still so is said again
    # back again
    for name in ("us/kafka", "us/postgres", "us/mirror", "us/co-1"):
        network.stack.restart(name)
    parts = network.endpoints.parts("us")
    await_flows(parts.bootstrap, "us", ("eu", "ap"), time.monotonic() + FLOWS_S)
    until(lambda: "us" not in losses(network.control), FLOWS_S, "us is lost no more")
    until(lambda: network.hears_all(*REGIONS), FLOWS_S, "each region hears both others")
