"""The demo's plan: seeded, solvable, and with fraud that the rules can see."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlode.adapters.clock import PacedClock
from everlode.errors import ConfigError
from everlode.state.fraudrules import READ_BYTES_PER_MS
from everlode.workload.pace import Pace
from everlode.workload.plan import COLLUDERS, NEVER_FITS, VICES, Workload, plan
from everlode.workload.trace import Node, Trace, generate, share_of

REGIONS = ("eu", "us", "ap")
WHOLE = generate(7)
TENTH = plan(share_of(WHOLE, 0.1), 1, REGIONS)


def test_plan_depends_on_trace_and_seed_alone() -> None:
    assert plan(WHOLE, 1, REGIONS) == plan(WHOLE, 1, REGIONS)
    assert plan(WHOLE, 1, REGIONS) != plan(WHOLE, 2, REGIONS)


@pytest.mark.parametrize("seed", range(5))
def test_plan_of_the_whole_trace_earns_more_than_5000_rewards(seed: int) -> None:
    fates = Counter(t.fate for t in plan(generate(seed), seed, REGIONS).tasks)
    assert fates == {"solve": 5193 + 192, "fail": 1870, "cancel": 897}


@pytest.mark.parametrize("share", [0.001, 0.02, 0.1, 1])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_task_that_should_be_worked_on_fits_reliable_miners(share: float, seed: int) -> None:
    workload = plan(share_of(WHOLE, share), seed, REGIONS)
    for task in workload.tasks:
        able = [
            m
            for m in workload.miners
            if m.region == task.region
            and task.task_type in m.specialties
            and task.gpus <= m.gpus
            and m.vice == "honest"
            and not m.colludes
        ]
        assert len(able) == 0 if task.fate == "cancel" else len(able) >= 3


@pytest.mark.parametrize("share", [0.001, 0.1, 1])
def test_vices_and_colluders_have_their_quotas(share: float) -> None:
    workload = plan(share_of(WHOLE, share), 3, REGIONS)
    count = len(workload.miners)
    vices = Counter(m.vice for m in workload.miners)
    assert {v: vices[v] for v in VICES} == {
        v: max(1, round(share * count)) for v, share in VICES.items()
    }
    for region in REGIONS:
        colluders = sum(m.colludes for m in workload.miners if m.region == region)
        assert colluders == max(3, round(COLLUDERS * count / 3))
    assert not workload.dishonest() & workload.colluders()


def test_hasty_work_is_faster_than_reading_and_honest_work_is_not() -> None:
    for task in plan(WHOLE, 1, REGIONS).tasks:
        assert READ_BYTES_PER_MS * 1 < task.payload_bytes <= READ_BYTES_PER_MS * 1000


def test_pending_tasks_ask_for_more_than_any_miner_has() -> None:
    workload = plan(WHOLE, 1, REGIONS)
    assert max(m.gpus for m in workload.miners) < NEVER_FITS
    assert {t.gpus for t in workload.tasks if t.fate == "cancel"} == {NEVER_FITS}


def test_trace_with_too_few_nodes_is_refused() -> None:
    few = Trace("few", tuple(Node(f"n{i}", 1, 1, 1, "T4") for i in range(20)), WHOLE.pods)
    with pytest.raises(ConfigError, match="20 nodes; 21 are needed"):
        plan(few, 1, REGIONS)


def _at_wall(workload: Workload, clock: PacedClock) -> list[int]:
    times = [t for task in workload.tasks for t in (task.created_ms, task.ended_ms)]
    return [clock.wall_ms_of(t) for t in times]


@settings(max_examples=20)
@given(st.integers(10_000, 600_000))
def test_pace_makes_the_load_even(duration_ms: int) -> None:
    start = 1_700_000_000_000
    points = Pace(TENTH, duration_ms).begin(start)
    walls = _at_wall(TENTH, PacedClock(points))
    assert min(walls) >= start
    assert max(walls) <= start + duration_ms + 1
    quarters = Counter((w - start - 1) * 4 // duration_ms for w in walls)
    for quarter in range(4):
        assert 0.15 <= quarters[quarter] / len(walls) <= 0.35
