"""The pace of a plan: even, tapering off before a limit, never beyond it, never back."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.adapters.clock import PacedClock
from everlode.demo.run import FELT
from everlode.demo.work import LEAST_S, LIMITS, RATE
from everlode.workload.pace import LEAD_MS, Pace
from everlode.workload.plan import LASTING_MS, plan
from everlode.workload.trace import generate, share_of

WORK = plan(share_of(generate(1), 0.05), 1, ("eu", "us", "ap"))
TIMES = sorted(t for task in WORK.tasks for t in (task.created_ms, task.ended_ms))
ENDS = sorted(task.ended_ms for task in WORK.tasks)
MINUTE = 60_000


def share(times: list[int], pace: Pace, wall_ms: int) -> float:
    now = PacedClock(pace.knots).event_ms_at(wall_ms)
    return sum(t <= now for t in times) / len(times)


def test_even_pace_does_the_same_in_each_part_of_its_time() -> None:
    pace = Pace(WORK, MINUTE)
    pace.begin(1_000)
    for part in (0.25, 0.5, 0.75):
        assert share(TIMES, pace, 1_000 + int(MINUTE * part)) == pytest.approx(part, abs=0.03)
    assert share(TIMES, pace, 1_000 + MINUTE) == 1


@pytest.mark.parametrize("limit", [0.3, 0.6, 0.9])
def test_work_comes_near_its_limit_and_waits_there(limit: float) -> None:
    pace = Pace(WORK, MINUTE)
    pace.begin(0, limit)
    assert share(ENDS, pace, 5 * MINUTE) == pytest.approx(limit, abs=0.02)
    assert share(ENDS, pace, 60 * MINUTE) == pytest.approx(limit, abs=0.04)


def test_raised_limit_lets_the_work_go_on_at_the_first_pace() -> None:
    pace = Pace(WORK, MINUTE)
    pace.begin(0, 0.5)
    waited = share(TIMES, pace, 10 * MINUTE)
    pace.go_on(10 * MINUTE, 0.9)
    begun = 10 * MINUTE + LEAD_MS
    soon = share(TIMES, pace, begun + 6_000) - share(TIMES, pace, begun)
    assert soon == pytest.approx(0.1, abs=0.03)
    assert share(ENDS, pace, 20 * MINUTE) == pytest.approx(0.9, abs=0.02)
    pace.go_on(20 * MINUTE)
    assert share(TIMES, pace, 20 * MINUTE + LEAD_MS + int((1.05 - waited) * MINUTE)) == 1


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("share", [0.02, 0.1])
@pytest.mark.parametrize("speed", [0.1, 4.0])
def test_tasks_outlive_a_failover_at_each_moment_that_a_demo_kills_at(
    share: float, seed: int, speed: float
) -> None:
    """Or whether they migrate could not be asked, and a slow machine would fail by chance."""
    work = plan(share_of(generate(seed), share), seed, ("eu", "us", "ap"))
    planned_ms = int(max(LEAST_S, len(work.tasks) / RATE) / speed * 1000)
    ends = sorted(task.ended_ms for task in work.tasks)
    for ended, limit in ((0.35, "work"), (0.5, "work"), (0.55, "backup"), (0.72, "disaster")):
        pace = Pace(work, planned_ms)
        pace.begin(0, LIMITS[limit])
        killed_ms = PacedClock(pace.knots).wall_ms_of(ends[int(ended * len(ends))])
        pace.go_on(killed_ms, LIMITS[limit] + FELT)
        clock = PacedClock(pace.knots)
        begun, later = (clock.event_ms_at(killed_ms + ms) for ms in (0, LASTING_MS))
        lasting = [
            task
            for task in work.tasks
            if task.region == "eu" and task.fate != "cancel"
            if task.created_ms <= begun and task.ended_ms > later
        ]
        assert len(lasting) >= 2, (ended, limit)


CHANGE = st.tuples(st.integers(0, 240_000), st.floats(0.05, 1.0))


@given(st.lists(CHANGE, max_size=6), st.floats(0.05, 1.0))
def test_changes_never_turn_event_time_back_or_change_what_has_been(
    changes: list[tuple[int, float]], first: float
) -> None:
    pace = Pace(WORK, MINUTE)
    pace.begin(10_000, first)
    for now, limit in sorted(changes):
        before = PacedClock(list(pace.knots))
        pace.go_on(now, limit)
        after = PacedClock(pace.knots)
        assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(pace.knots))
        for wall in range(0, now + LEAD_MS, 997):
            assert after.event_ms_at(wall) == pytest.approx(before.event_ms_at(wall), abs=2)
