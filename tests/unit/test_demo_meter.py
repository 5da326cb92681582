"""Memory and time by kind of process; one demo at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from everlode.demo.meter import ALL, Meter, Seen, processes
from everlode.demo.only_one import only_one
from everlode.errors import Locked


def seen(parent: int, cpu_s: float, resident: int, shared: int = 0, began: int = 1) -> Seen:
    return Seen(parent, began, cpu_s, resident, shared)


def test_children_count_for_their_nearest_kind_without_what_they_share() -> None:
    meter = Meter()
    now = {1: seen(0, 9, 900), 10: seen(1, 2, 100), 11: seen(10, 1, 60, 40), 12: seen(11, 1, 5),
           20: seen(10, 3, 50)}  # fmt: skip
    assert meter.measure({10: "postgres", 20: "node"}, now) == 100 + 20 + 5 + 50
    assert meter.peak_bytes == {"postgres": 125, "node": 50, ALL: 175}
    assert meter.cpu_s == {"postgres": 4, "node": 3}


def test_peak_is_of_one_moment_and_time_of_the_ended_is_kept() -> None:
    meter = Meter()
    meter.measure({10: "a", 20: "b"}, {10: seen(1, 2, 100), 20: seen(1, 1, 10)})
    meter.measure({10: "a", 20: "b"}, {20: seen(1, 1.5, 70)})
    assert meter.peak_bytes == {"a": 100, "b": 70, ALL: 110}
    assert meter.cpu_s == {"a": 2, "b": 1.5}


def test_pid_that_is_used_again_is_another_process() -> None:
    meter = Meter()
    meter.measure({10: "a"}, {10: seen(1, 5, 1)})
    meter.measure({10: "a"}, {10: seen(1, 1, 1, began=2)})
    assert meter.cpu_s == {"a": 6}


def test_own_process_is_seen_in_proc() -> None:
    mine = processes()[os.getpid()]
    assert mine.parent == os.getppid()
    assert mine.resident > 1_000_000


def test_second_demo_is_refused_and_names_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with only_one():
        with pytest.raises(Locked, match=f"process {os.getpid()}") as caught:
            only_one()
        assert caught.value.exit_code == 11
    only_one().close()
