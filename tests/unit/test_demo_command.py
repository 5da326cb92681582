"""`everlode demo` with wrong input: nothing is started, the error names it and the way out."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from everlode.cli.main import run
from everlode.demo.run import Outcome
from everlode.workload.trace import NODE_COLUMNS, POD_COLUMNS
from tests.support.facts.report import GOOD

POD_HEADER = ",".join(POD_COLUMNS)


def demo(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and error; its temporary files would be in `folder`."""
    env = {k: v for k, v in os.environ.items() if k != "EVERLODE_TRACE"}
    env |= {"TMPDIR": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "everlode.cli.main", "demo", "--json", *arguments],
        env=env, capture_output=True, text=True, timeout=60, check=False, cwd=folder,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)["error"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--kill-at", "noon"], "noon"),
        (["--share", "0"], "--share"),
        (["--share", "1.5"], "--share"),
        (["--speed", "0"], "--speed"),
        (["--trace", "no-such-folder"], "nodes.csv is missing"),
    ],
)
def test_demo_with_wrong_input_starts_nothing(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    assert run(["demo", "--json", *arguments]) == 2
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
    error = json.loads(capsys.readouterr().out)["error"]
    assert named in error["message"]
    assert error["hint"]


@pytest.mark.parametrize(
    ("file", "line", "named"),
    [
        ("pods.csv", POD_HEADER + ",colour", ["pods.csv", "line 1", "'colour'"]),
        ("pods.csv", POD_HEADER + "\npod-a,1,2", ["pods.csv", "line 2", "11 columns"]),
        ("nodes.csv", None, ["nodes.csv is missing"]),
    ],
)
def test_demo_on_a_broken_trace_names_the_place_and_leaves_nothing(
    tmp_path: Path,
    file: str,
    line: str | None,
    named: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, trace = tmp_path / "own", tmp_path / "trace"
    folder.mkdir()
    trace.mkdir()
    (trace / "nodes.csv").write_text(",".join(NODE_COLUMNS) + "\nn,1,1,1,T4\n")
    (trace / "pods.csv").write_text(POD_HEADER + "\n")
    if line is None:
        (trace / file).unlink()
    else:
        (trace / file).write_text(line + "\n")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.chdir(folder)
    assert run(["demo", "--json", "--trace", str(trace)]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert all(word in error["message"] for word in named), error
    assert error["hint"]
    assert list(folder.iterdir()) == []


def test_second_demo_is_refused_while_one_runs(tmp_path: Path) -> None:
    lock = tmp_path / f"everlode-demo-{os.getuid()}.lock"
    with lock.open("w") as file:
        file.write("4711")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        code, error = demo(tmp_path, "--share", "0.01")
    assert (code, error["code"]) == (11, "locked")
    assert error["hint"]
    assert "4711" in error["message"]
    assert list(tmp_path.iterdir()) == [lock]


def test_demo_that_is_not_proved_is_one_json_document_and_13(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Unproved:
        root = tmp_path

        def __init__(self, *_: object) -> None:
            pass

        def run(self) -> Outcome:
            return Outcome(GOOD | {"failures": ["reward t|m: paid twice"]}, tmp_path)

    monkeypatch.setattr("everlode.cli.demo.Demo", Unproved)
    monkeypatch.setattr("everlode.demo.report.save", lambda *_: (tmp_path / "r.json", tmp_path))
    assert run(["demo", "--json"]) == 13
    document = json.loads(capsys.readouterr().out)
    assert document["failures"]
    assert "reward t|m: paid twice" in document["error"]["message"]
    assert "r.json" in document["error"]["hint"]
