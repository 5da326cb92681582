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
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert run(["demo", "--json", *arguments]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    error = json.loads(capsys.readouterr().out)["error"]
    assert named in error["message"]
    assert error["hint"]


def test_second_demo_is_refused_while_one_runs(tmp_path: Path) -> None:
    lock = tmp_path / f"everlode-demo-{os.getuid()}.lock"
    with lock.open("w") as file:
        file.write("4711")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        code, error = demo(tmp_path, "--share", "0.01")
    assert code == 11
    assert "4711" in error["message"]
    assert list(tmp_path.iterdir()) == [lock]
