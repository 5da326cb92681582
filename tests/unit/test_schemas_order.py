"""Stamps, node states, task types: small things that order and limit everything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from everlode.errors import ConfigError, Refusal
from everlode.events.nodes import TRANSITIONS, NodeStatus, move
from everlode.events.stamp import (
    COUNTER_BITS,
    MAX_AHEAD_MS,
    HybridClock,
    millis_of,
    stamp_at,
)
from everlode.events.tasktypes import DEFAULT_TASK_TYPES, check_task_type, check_task_types
from everlode.topics import Topology

MILLIS = st.integers(0, 2**47 - 1)


@given(MILLIS, st.lists(st.tuples(st.booleans(), st.integers(-MAX_AHEAD_MS, MAX_AHEAD_MS))))
def test_stamps_rise_strictly_whatever_the_wall_clock_does(
    start: int, steps: list[tuple[bool, int]]
) -> None:
    clock, given_out, wall = HybridClock(), [0], start
    for observe, shift in steps:
        wall = max(0, start + shift)
        if observe:
            clock.observe(stamp_at(wall))
            given_out.append(max(given_out[-1], stamp_at(wall)))
        else:
            stamp = clock.next(wall)
            assert stamp > given_out[-1]
            assert millis_of(stamp) >= wall
            given_out.append(stamp)


def test_stamps_of_one_millisecond_are_counted() -> None:
    clock = HybridClock()
    stamps = [clock.next(1000) for _ in range(2**COUNTER_BITS + 2)]
    assert stamps == list(range(stamp_at(1000), stamp_at(1001) + 2))
    assert clock.next(1000) == stamp_at(1001, 2)


def test_stamp_of_a_cause_far_ahead_is_refused() -> None:
    clock = HybridClock()
    edge, beyond = stamp_at(MAX_AHEAD_MS + 1000), stamp_at(MAX_AHEAD_MS + 1001)
    with pytest.raises(Refusal) as caught:
        clock.next(1000, beyond)
    assert caught.value.code == "clock_skew"
    assert clock.next(1000, edge) == edge + 1
    with pytest.raises(Refusal):
        clock.next(1000, stamp_at(2 * MAX_AHEAD_MS + 1000))  # a cause moves no bound


def test_stamps_go_on_above_their_own_log_when_the_clock_is_set_back() -> None:
    clock, hour = HybridClock(), 3_600_000
    last = clock.next(2 * hour)
    assert [clock.next(hour) for _ in range(3)] == [last + 1, last + 2, last + 3]
    new = HybridClock()  # of a process that starts after it
    new.observe(last)
    assert new.next(hour) == last + 1
    assert new.next(hour, last + 5) == last + 6, "what others have stamped meanwhile"
    assert new.next(3 * hour) == stamp_at(3 * hour)


def test_stamps_that_were_written_nowhere_are_forgotten() -> None:
    clock, hour = HybridClock(), 3_600_000
    written = clock.next(hour)
    clock.observe(written)
    clock.next(2 * hour)  # by a wall clock that was wrong
    clock.forget()
    assert clock.next(hour) == written + 1
    assert clock.next(hour + 1) == stamp_at(hour + 1)


@given(MILLIS, st.integers(0, 2**COUNTER_BITS - 1))
def test_stamp_holds_its_millisecond(millis: int, counter: int) -> None:
    assert millis_of(stamp_at(millis, counter)) == millis
    assert stamp_at(millis, counter) < 2**63


def test_node_states_are_those_of_the_design() -> None:
    names = "healthy degraded lost fenced draining rejoining"
    assert {str(status) for status in NodeStatus} == set(names.split())
    assert set(TRANSITIONS) == set(NodeStatus)


def test_node_moves_only_as_the_table_says() -> None:
    for old in NodeStatus:
        assert move(old, old) is old
        assert old not in TRANSITIONS[old]
        for new in NodeStatus:
            if new in TRANSITIONS[old] or new is old:
                assert move(old, new) is new
            else:
                with pytest.raises(Refusal, match=f"from {old} to {new}"):
                    move(old, new)


def test_lost_or_fenced_node_works_again_only_by_rejoining() -> None:
    # one that was drained before drains on: it is given nothing, and is not promoted
    working = {NodeStatus.HEALTHY, NodeStatus.DEGRADED}
    for status in (NodeStatus.LOST, NodeStatus.FENCED):
        assert not TRANSITIONS[status] & working
        assert NodeStatus.REJOINING in TRANSITIONS[status]


def test_every_node_state_can_be_reached_and_left() -> None:
    reached = set().union(*TRANSITIONS.values())
    assert reached == set(NodeStatus)
    assert all(TRANSITIONS.values())


def test_task_types_are_an_open_checked_list() -> None:
    assert check_task_types(("b-1", "aa", "b-1")) == ("aa", "b-1")
    assert check_task_types(DEFAULT_TASK_TYPES) == tuple(sorted(DEFAULT_TASK_TYPES))
    for wrong in ((), ("A",), ("a b",), ("1a",), ("",), ("a" * 41,), ("ok", "é")):
        with pytest.raises(ConfigError):
            check_task_types(wrong)
        with pytest.raises(ValidationError, match="task types"):
            Topology(task_types=wrong)
    assert Topology(task_types=("b-1", "aa")).task_types == ("b-1", "aa")
    assert check_task_type("training") == "training"
    with pytest.raises(Refusal, match="mining") as caught:
        check_task_type("mining")
    assert "training" in caught.value.hint
