"""How many commands a second a primary of tasks carries out, and how long an answer takes.

Each build has a small stack and a load of its own, two partitions, the same commands: tasks are
submitted, and then cancelled, asked for again, or left open. Round by round, in turn, a node is
started and made primary. `primary.rate`: so many commands at once, from the first to the last
answer. `primary.answer`: the median answer at 300 commands a second, for ten seconds. The former
build is a checkout with its own `.venv`, named by BENCH_FORMER; without it nothing is measured.
BENCH_COMMANDS at once (20,000).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.backup import FORMER, former
from benchmarks.result import alternate, write

CHILD = Path(__file__).with_name("_primary_child.py")
COMMANDS = int(os.environ.get("BENCH_COMMANDS", "20000"))
RATE = 300.0
SECONDS = min(10.0, COMMANDS / 1000)
ROUNDS = 5


class Build:
    """A build's child process, and what it has seen."""

    def __init__(self, name: str, python: Path, folder: Path) -> None:
        self.name = name
        self.seen: list[dict[str, float]] = []
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as out:
            self._child = subprocess.Popen(
                [str(python), str(CHILD), str(folder / name)], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=out, text=True,
            )  # fmt: skip

    def __enter__(self) -> Build:
        self._said()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.communicate(timeout=120)  # the end of its input stops it

    def measure(self) -> float:
        """One round; commands a second."""
        asked = {
            "round": len(self.seen), "commands": COMMANDS, "rate": RATE, "seconds": SECONDS,
        }  # fmt: skip
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(asked) + "\n")
        self._child.stdin.flush()
        found: dict[str, float] = json.loads(self._said())
        self.seen.append(found)
        print(self.name, {k: round(v, 1) for k, v in found.items()}, file=sys.stderr)
        return found["per_second"]

    def column(self, name: str) -> list[float]:
        """What was seen of one figure, a value a round."""
        return [found[name] for found in self.seen]

    def _said(self) -> str:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: {self._log.read_text()[-4000:]}")
        return line


def main() -> None:
    """Both stacks, then rounds in turn."""
    found = former()
    if found is None:
        print(f"primary: not measured, {FORMER} names no former build", file=sys.stderr)
        return
    theirs, commit = found
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="everlode-bench-")))
        ours = stack.enter_context(Build("ours", Path(sys.executable), folder))
        other = stack.enter_context(Build("former", theirs.python, folder))
        alternate(ROUNDS, ours.measure, other.measure)
    against = f"the former build {commit}, the same commands"
    for name, unit, field, more in (
        ("primary.rate", "commands a second", "per_second", "processor_us"),
        ("primary.answer", f"ms, the median answer at {RATE:.0f} commands a second", "median_ms",
         "p95_ms"),
    ):  # fmt: skip
        extra: dict[str, Any] = {
            more: round(min(ours.column(more))),
            f"{more}_former": round(min(other.column(more))),
        }
        wanted = 0.95 if field == "per_second" else 1.05
        write(name, unit, ours.column(field), against, other.column(field), wanted=wanted, **extra)


if __name__ == "__main__":
    main()
