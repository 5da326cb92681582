"""The pace of a plan: even, eased so that work never runs out, even again; never back."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlode.adapters.clock import PacedClock
from everlode.workload.pace import LEAD_MS, Pace
from everlode.workload.plan import plan
from everlode.workload.trace import generate, share_of

WORK = plan(share_of(generate(1), 0.05), 1, ("eu", "us", "ap"))
TIMES = sorted(t for task in WORK.tasks for t in (task.created_ms, task.ended_ms))
MINUTE = 60_000


def done(pace: Pace, wall_ms: int) -> float:
    """Share of creations and ends that have come."""
    now = PacedClock(pace.knots).event_ms_at(wall_ms)
    return sum(t <= now for t in TIMES) / len(TIMES)


def test_even_pace_does_the_same_in_each_part_of_its_time() -> None:
    pace = Pace(WORK, MINUTE)
    pace.begin(1_000)
    for share in (0.25, 0.5, 0.75):
        assert done(pace, 1_000 + int(MINUTE * share)) == pytest.approx(share, abs=0.03)
    assert done(pace, 1_000 + MINUTE) == 1


def test_eased_pace_goes_on_as_fast_at_first_and_never_runs_out() -> None:
    pace = Pace(WORK, MINUTE)
    pace.begin(0)
    pace.ease(MINUTE // 2 - LEAD_MS)
    assert done(pace, MINUTE // 2) == pytest.approx(0.5, abs=0.03)
    soon = done(pace, MINUTE // 2 + 3_000) - done(pace, MINUTE // 2)
    assert soon == pytest.approx(0.05, abs=0.03)
    assert done(pace, 2 * MINUTE) < 0.98  # at the even pace it would have ended after one
    assert done(pace, 2 * MINUTE) > done(pace, int(1.5 * MINUTE)) > done(pace, MINUTE)


def test_resumed_pace_ends_the_work_at_the_first_pace() -> None:
    pace = Pace(WORK, MINUTE)
    pace.begin(0)
    pace.ease(30_000)
    pace.resume(90_000)
    begun = done(pace, 91_000)
    assert begun < 0.95
    assert done(pace, 91_000 + int((1.05 - begun) * MINUTE)) == 1


@given(
    st.lists(st.tuples(st.sampled_from(["ease", "resume"]), st.integers(0, 120_000)), max_size=6)
)
def test_changes_never_turn_event_time_back_or_change_what_has_been(
    changes: list[tuple[str, int]],
) -> None:
    pace = Pace(WORK, MINUTE)
    pace.begin(10_000)
    for name, now in sorted(changes, key=lambda c: c[1]):
        before = PacedClock(list(pace.knots))
        getattr(pace, name)(now)
        after = PacedClock(pace.knots)
        assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(pace.knots))
        for wall in range(0, now + LEAD_MS, 997):
            assert after.event_ms_at(wall) == pytest.approx(before.event_ms_at(wall), abs=2)
