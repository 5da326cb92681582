"""Logs of a stack are bounded under writers that append, and are followed across that."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from everlode.stack.native.bounded import LOOK_S, BoundedLogs, older_of
from everlode.stack.native.logs import Logs
from everlode.telemetry.entries import Entry, Note

MOST = 10_000
WRITER = """
import sys
for asked in sys.stdin:
    print(asked, end="", file=sys.stderr, flush=True)
    print("written", flush=True)
"""
"""A process whose output is a log: it says when a line is written."""


class Turned:
    """The logs of a folder, bounded at a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.said: list[Entry] = []
        self._logs = BoundedLogs(folder, MOST, self.said.append, lambda: self.now)

    def turn(self) -> None:
        self.now += LOOK_S
        self._logs.turn()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "eu-kafka.log"


@contextmanager
def writer(log: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the log as its output, as `process.Process` gives it."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER], text=True, stderr=out,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
    with process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def write(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "written\n"


def test_log_is_cut_under_its_writer_and_nobody_who_follows_misses_a_line(log: Path) -> None:
    turned, seen = Turned(log.parent), list[str]()
    with writer(log) as process:
        follower = Logs(log.parents[1], "eu/kafka")
        for n in range(200):
            write(process, f"line {n:04} {'x' * 500}")
            if n % 7 == 0:
                seen += [found.line for found in follower.grown()]
            turned.turn()
            assert log.stat().st_size <= MOST + 600
            assert not older_of(log).exists() or older_of(log).stat().st_size <= 2 * MOST
    seen += [found.line for found in follower.grown()]
    assert [line[:9] for line in seen] == [f"line {n:04}" for n in range(200)]
    assert b"\0" not in log.read_bytes()
    assert sorted(p.name for p in log.parent.iterdir()) == ["eu-kafka.log", "eu-kafka.log.1"]
    assert turned.said == []


def test_last_lines_are_those_of_the_older_part_too(log: Path) -> None:
    log.write_text("".join(f"{n}\n" for n in range(3000)))
    turned = Turned(log.parent)
    turned.turn()
    assert log.stat().st_size == 0
    with log.open("a") as more:
        more.write("3000\n3001\n")
    found = Logs(log.parents[1])
    assert [line.line for line in found.last(4)] == ["2998", "2999", "3000", "3001"]
    assert [line.line for line in found.last(1)] == ["3001"]
    assert list(found.last(0)) == []
    assert list(found.grown()) == []


def test_log_that_is_copied_and_not_cut_yet_is_not_read_twice(log: Path) -> None:
    log.write_text("a\nb\n")
    found = Logs(log.parents[1])
    assert [line.line for line in found.grown()] == ["a", "b"]
    older_of(log).write_text("a\nb\n")
    assert list(found.grown()) == []
    os.truncate(log, 0)
    assert list(found.grown()) == []
    log.write_text("c\n")
    assert [line.line for line in found.grown()] == ["c"]


def test_small_logs_and_other_files_are_left_alone(log: Path) -> None:
    log.write_text("x" * MOST)
    other = log.parent / "eu-kafka.txt"
    other.write_text("x" * 2 * MOST)
    Turned(log.parent).turn()
    assert (log.stat().st_size, other.stat().st_size) == (MOST, 2 * MOST)
    assert not older_of(log).exists()


def test_log_whose_older_part_cannot_be_written_is_cut_all_the_same_and_that_is_said(
    log: Path,
) -> None:
    log.write_text("x" * 2 * MOST)
    older_of(log).mkdir()
    turned = Turned(log.parent)
    turned.turn()
    assert log.stat().st_size == 0
    (said,) = turned.said
    assert isinstance(said, Note)
    assert "eu-kafka.log" in said.text


def test_logs_are_looked_at_now_and_then_only(log: Path) -> None:
    turned = Turned(log.parent)
    turned.turn()
    log.write_text("x" * 2 * MOST)
    turned._logs.turn()
    assert log.stat().st_size == 2 * MOST
    turned.turn()
    assert log.stat().st_size == 0
