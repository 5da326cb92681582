"""Memory and time by kind of process."""

from __future__ import annotations

import os

from everlode.fleet.meter import ALL, Meter, Seen, processes, proportional


def seen(parent: int, cpu_s: float, began: int = 1) -> Seen:
    return Seen(parent, began, cpu_s)


def test_children_count_for_their_nearest_kind() -> None:
    meter = Meter()
    now = {1: seen(0, 9), 10: seen(1, 2), 11: seen(10, 1), 12: seen(11, 1), 20: seen(10, 3)}
    sizes = {1: 900, 10: 100, 11: 20, 12: 5, 20: 50}
    meter.measure({10: "postgres", 20: "node"}, now, sizes.__getitem__)
    assert meter.peak_bytes == {"postgres": 125, "node": 50, ALL: 175}
    assert meter.cpu_s == {"postgres": 4, "node": 3}


def test_peak_is_of_one_moment_and_time_of_the_ended_is_kept() -> None:
    meter = Meter()
    kinds = {10: "a", 20: "b"}
    meter.measure(kinds, {10: seen(1, 2), 20: seen(1, 1)}, {10: 100, 20: 10}.__getitem__)
    meter.measure(kinds, {20: seen(1, 1.5)}, {20: 70}.__getitem__)
    assert meter.peak_bytes == {"a": 100, "b": 70, ALL: 110}
    assert meter.cpu_s == {"a": 2, "b": 1.5}


def test_pid_that_is_used_again_is_another_process() -> None:
    meter = Meter()
    meter.measure({10: "a"}, {10: seen(1, 5)})
    meter.measure({10: "a"}, {10: seen(1, 1, began=2)})
    assert meter.cpu_s == {"a": 6}


def test_own_process_is_seen_in_proc() -> None:
    mine = processes()[os.getpid()]
    assert mine.parent == os.getppid()
    assert proportional(os.getpid()) > 1_000_000
    assert proportional(2**22 + 1) == 0
