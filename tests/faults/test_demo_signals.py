"""A demo that is ended from outside: whatever ends it, nothing of it runs on. On real parts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from everlode.demo.only_one import FOLDER, STACK, remove_killed
from tests.support.processes.entries import entries, entry_in

pytestmark = pytest.mark.timeout(150)
UP = {"entry": "PartReady", "part": "us/postgres"}
WORK = {"entry": "StackReady"}


class Started:
    """A real demo in a folder of its own, and every process that it has ever had."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.family: dict[int, psutil.Process] = {}
        env = {k: v for k, v in os.environ.items() if k != "EVERLODE_TRACE"}
        env |= {"TMPDIR": str(folder), "XDG_RUNTIME_DIR": str(folder), "EVERLODE_LOG": "json"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "everlode.cli.main", "demo", "--json", "--share", "0.02",
             "--report", str(folder / "report")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        )  # fmt: skip

    def look(self) -> dict[int, psutil.Process]:
        """Its processes now; those it had before are remembered."""
        now = {p.pid: p for p in psutil.Process(self.process.pid).children(recursive=True)}
        self.family |= now
        return now

    def comes_to(self, moment: dict[str, str]) -> None:
        """Wait until it has reported this entry."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if moment.items() <= entry_in(line).items():
                self.look()
                return
        pytest.fail(f"it ended before {moment!r}: {self.said[-5:]}")

    def works(self, nodes: int) -> None:
        """Wait until so many of its nodes have reported something, which each does in its log."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.look()
            logs = self.folder.glob("everlode-demo-*/logs/*.log")
            if sum(bool(entries(log)) for log in logs) >= nodes:
                return
            assert self.process.poll() is None, self.said[-5:]
            time.sleep(0.1)
        pytest.fail(f"there were never {nodes} nodes")

    def end(self) -> tuple[int, str, str]:
        """Exit code, output, and what it said after the signal."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def running(self) -> list[str]:
        """What is left of it, known as its descendant or by its temporary folder."""
        found = {p.pid: p for p in self.family.values() if p.is_running()}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("TMPDIR") == str(self.folder):
                    found[process.pid] = process
        left = []
        for process in found.values():
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    left.append(" ".join(process.cmdline())[:200])
        return left


@contextmanager
def started(folder: Path) -> Iterator[Started]:
    demo = Started(folder)
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.communicate(timeout=30)


def none_left(demo: Started, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while demo.running() and time.monotonic() < deadline:
        time.sleep(0.1)
    return demo.running() == []


@pytest.mark.parametrize(
    ("moment", "number"),
    [(UP, signal.SIGTERM), (WORK, signal.SIGINT)],
    ids=["coming-up", "working"],
)
def test_demo_asked_to_end_stops_everything_and_says_so(
    tmp_path: Path, moment: dict[str, str], number: signal.Signals
) -> None:
    """Asked again and again, as by an impatient hand, to its very end: once is all it takes."""
    with started(tmp_path) as demo:
        demo.comes_to(moment)
        if moment == WORK:
            demo.works(12)
        assert demo.family
        deadline = time.monotonic() + 60
        while demo.process.poll() is None and time.monotonic() < deadline:
            demo.process.send_signal(number)
            time.sleep(0.02)
        code, out, said = demo.end()
        assert demo.running() == []
    assert code == 130
    error = json.loads(out)["error"]
    assert error["code"] == "interrupted"
    assert error["hint"]
    assert "stopping" in said
    assert "logs are in" in said
    assert "Traceback" not in said
    (root,) = tmp_path.glob("everlode-demo-*[!k]")
    assert not (root / "stack").exists()
    assert not (tmp_path / "report").exists()


def test_demo_killed_leaves_no_process_and_the_next_removes_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(tmp_path) as demo:
        demo.comes_to(WORK)
        demo.works(12)
        assert len(demo.family) >= 30
        demo.process.kill()
        demo.process.communicate(timeout=30)
        assert none_left(demo, 10), demo.running()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert [*tmp_path.glob(f"{FOLDER}*/{STACK}")]
    remove_killed()
    assert [path.name for path in tmp_path.iterdir()] == [f"{FOLDER}{os.getuid()}.lock"]
