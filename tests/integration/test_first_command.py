"""The README's first command, as it stands there, on a stack of its own."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from everlode.stack import NativeStack

README = (Path(__file__).parents[2] / "README.md").read_text()
SECTION = README.partition("## A first command")[2].partition("\n## ")[0]
EVERLODE = [sys.executable, "-m", "everlode.cli.main"]


@contextmanager
def running(line: str, folder: Path) -> Iterator[None]:
    """One of the README's processes in the background; stopped at the end."""
    program, *arguments = shlex.split(line.removesuffix("&"))
    assert program == "everlode"
    with (folder / f"{arguments[0]}.log").open("wb") as log:
        process = subprocess.Popen([*EVERLODE, *arguments], cwd=folder, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.mark.timeout(300)
def test_readme_first_command_is_answered(tmp_path: Path) -> None:
    background = [line.strip() for line in SECTION.splitlines() if line.endswith(" &")]
    assert len(background) == 2
    found = re.search(r"```python\n(.+?)```", SECTION, re.S)
    assert found is not None
    program = found[1]
    promised = re.findall(r"^# (.+)$", program, re.M)
    statements = [line for line in program.splitlines() if line.strip() and line[0] != "#"]
    assert len(statements) < 10
    with ExitStack() as stack:
        stack.enter_context(NativeStack(data_dir=tmp_path / "stack", s3=None)).up()
        for line in background:
            stack.enter_context(running(line, tmp_path))
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    logs = {path.name: path.read_text() for path in tmp_path.glob("*.log")}
    assert done.returncode == 0, (done.stderr, logs)
    assert done.stdout.splitlines() == promised
