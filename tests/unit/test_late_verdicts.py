"""A verdict by silence, given after a pause of the detector itself, is believed a little later."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from everlode.events.base import Evidence
from everlode.events.health import NodeLost
from everlode.failover.decisions import Decisions
from everlode.failover.heartbeats import Heartbeats
from everlode.failover.limits import Limits
from everlode.failover.operations import Verdict
from everlode.failover.statuses import LATE_MS, LATE_S, Statuses
from tests.scenario.test_detection_scenarios import beat
from tests.unit.test_control_grounds import COORDINATOR, Log


class Region:
    """Nodes a, b and c beat; the coordinator's part is the real one."""

    def __init__(self) -> None:
        self.log = Log()
        self.heartbeats = Heartbeats()
        for offset, node in enumerate(("a", "b", "c")):
            self.log.join(node)
            self.heartbeats.observe(beat(node, 0), 0, offset, behind=False)
        self.log.take(COORDINATOR, "co-1")
        agent = SimpleNamespace(
            identity=SimpleNamespace(node_id="co-1", region="eu"), log=self.log, leads=lambda _: 1
        )
        self.statuses = Statuses(
            "eu", self.heartbeats, Decisions(cast("Any", agent)), {"task-manager"},
            Limits(10_000, 2_000),
        )  # fmt: skip

    def silent(self, node: str, seconds: float) -> None:
        """Its last beat was read so long ago."""
        last = self.heartbeats.last[node]
        self.heartbeats.last[node] = last._replace(read_at=time.monotonic() - seconds)

    def verdict(self, node: str, rule: str, silence_ms: int) -> None:
        evidence = (Evidence(topic="h", partition=0, offset=9, note="barrier"),)
        lost = NodeLost(
            component="task-manager", rule=rule, silence_ms=silence_ms, phi=9.0, actionable=True,
            evidence=evidence,
        )  # fmt: skip
        self.statuses.observe(node, Verdict("v", 1, lost))

    def status(self, node: str) -> str:
        control = self.log.state
        self.statuses.note(control, control.nodes[node], 1, handled=False)
        return self.log.state.nodes[node].status


@pytest.mark.parametrize(
    ("rule", "silent_s", "status"),
    [("phi", 4.0, "lost"), ("phi", 15.0, "healthy"), ("refused-and-silent", 15.0, "lost")],
    ids=["in time", "late", "late, but refused"],
)
def test_verdict_by_silence_is_noted_at_once_unless_its_detector_was_late(
    rule: str, silent_s: float, status: str
) -> None:
    region = Region()
    region.silent("a", silent_s)
    region.verdict("a", rule, 4_000)
    assert region.status("a") == status


def test_late_verdict_is_believed_when_the_node_stays_silent_and_not_when_it_beats() -> None:
    region = Region()
    region.silent("a", 15)
    region.verdict("a", "phi", 4_000)
    assert region.status("a") == "healthy"
    region.statuses._of("a").observed_at -= LATE_S
    assert region.status("a") == "lost"

    region = Region()
    region.silent("a", 15)
    region.verdict("a", "phi", 4_000)
    region.heartbeats.observe(beat("a", 0), 0, 10, behind=False)
    region.statuses._of("a").observed_at -= LATE_S
    assert region.status("a") == "healthy"


def test_verdict_that_was_in_time_is_not_late_because_it_was_held_up() -> None:
    region = Region()
    region.silent("a", 4 + LATE_MS / 1000)
    region.verdict("a", "phi", 4_500)
    region.statuses._of("a").observed_at -= LATE_MS / 1000 - 0.1
    assert region.status("a") == "lost"
