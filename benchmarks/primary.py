"""How many commands a second a primary of tasks carries out, and how long an answer takes.

Each build has a small stack and a load of its own, two partitions, the same commands: tasks are
submitted, and then cancelled, asked for again, or left open. Round by round, in turn, a node is
started and made primary. `primary.rate`: so many commands at once, from the first to the last
answer. `primary.answer`: the median answer at 300 commands a second, for ten seconds. The former
build is a checkout with its own `.venv`, named by BENCH_FORMER; without it nothing is measured.
BENCH_COMMANDS at once (20,000).
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks._child import Child
from benchmarks.backup import FORMER, former
from benchmarks.result import alternate, write

CHILD = Path(__file__).with_name("_primary_child.py")
COMMANDS = int(os.environ.get("BENCH_COMMANDS", "20000"))
RATE = 300.0
SECONDS = min(10.0, COMMANDS / 1000)
ROUNDS = 5


class Build(Child):
    """A build's child process, and what it has seen."""

    ends_s = 120

    def __init__(self, name: str, python: Path, folder: Path) -> None:
        arguments = [str(python), str(CHILD), str(folder / name)]
        super().__init__(name, arguments, folder / f"{name}.log")
        self.seen: list[dict[str, float]] = []

    def measure(self) -> float:
        """One round; commands a second."""
        found: dict[str, float] = self.ask(
            round=len(self.seen), commands=COMMANDS, rate=RATE, seconds=SECONDS
        )
        self.seen.append(found)
        print(self.name, {k: round(v, 1) for k, v in found.items()}, file=sys.stderr)
        return found["per_second"]

    def column(self, name: str) -> list[float]:
        """What was seen of one figure, a value a round."""
        return [found[name] for found in self.seen]


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
