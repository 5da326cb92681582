"""Commands of a page, typed into one shell in their order, as a reader does. Shell."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.facts.pages import Typed

MARK = "@@ ended with"
HEAD = """\
exec 2>&1
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
"""
STEP = """\
{line}
ended=$?; printf '\\n{mark} %d\\n' $ended; [ $ended = 0 ] || exit 1
"""


class NotAsWritten(AssertionError):
    """A command does not do what its page says."""


def run(commands: Sequence[Typed], folder: Path, timeout_s: float, **more: str) -> None:
    """Type them in `folder`; what a page lets run in the background ends with its shell.

    Raises: NotAsWritten: one ends with another code than 0, or does not print what its page shows.
    """
    script = HEAD + "".join(STEP.format(line=one.line, mark=MARK) for one in commands)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: v for name, v in os.environ.items() if name != "EVERLODE_STACK_DIR"}
    environment |= {"PATH": path, "COLUMNS": "200", **more}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    printed = done.stdout.split(f"\n{MARK} ")
    for number, one in enumerate(commands):
        # what the command printed stands before its mark, after the line with the code before it
        said = printed[number].partition("\n")[2] if number else printed[0]
        code = printed[number + 1].split()[0] if number + 1 < len(printed) else "no end"
        if code != "0":
            raise NotAsWritten(f"$ {one.line}\n{said}\nended with {code}")
        shown = " ".join(said.split())
        for line in one.seen:
            if " ".join(line.split()) not in shown:
                raise NotAsWritten(f"$ {one.line}\n{said}\ndoes not show: {line}")
