"""How long it takes to submit a task over HTTP, against the bare SDK, at 200 a second.

One primary of tasks, one server, and two processes of equal build that submit by turns, 15 s a
round: one by `POST /commands/SubmitTask`, one by the SDK's `AsyncMiningClient.call`, which is what
the server calls too. Milliseconds from the moment at which a task was due until its fact was
acknowledged; `api.p50` and `api.p99`.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks._child import Child
from benchmarks.live import p99
from benchmarks.result import alternate, write
from tests.support.world.region import Region, until
from tests.support.world.serving import Server

CHILD = Path(__file__).with_name("_api_child.py")
RATE, SECONDS, WARM_S = 200, 15, 5
ROUNDS = 5
WANTED = 1.3


class Caller(Child):
    """A process that submits, and what each of its rounds took."""

    def __init__(self, log: Path, *words: str) -> None:
        super().__init__(words[0], [sys.executable, str(CHILD), *words], log)
        self.rounds: list[list[float]] = []

    def __enter__(self) -> Caller:
        super().__enter__()
        self.submit("warm", WARM_S)
        return self

    def submit(self, name: str, seconds: int) -> list[float]:
        """Milliseconds, sorted."""
        return sorted(self.ask(prefix=f"{self.name}-{name}", rate=RATE, seconds=seconds))

    def measure(self) -> float:
        """One round; its median."""
        self.rounds.append(self.submit(str(len(self.rounds)), SECONDS))
        median = statistics.median(self.rounds[-1])
        print(self.name, round(median, 1), round(p99(self.rounds[-1]), 1), file=sys.stderr)
        return median


def main() -> None:
    """A region, a server, and rounds in turn."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="everlode-bench-")))
        region = stack.enter_context(Region(folder))
        region.leader("task-manager", "tasks", "eu-tm-1")
        place = region.stack.data_dir
        server = stack.enter_context(Server(place, folder / "serve.log", "--insecure"))
        until(lambda: server.ask("/readyz").status == 200, 60, "the server is ready")
        http = stack.enter_context(Caller(folder / "http.log", "http", server.address))
        sdk = stack.enter_context(Caller(folder / "sdk.log", "sdk", str(place), "eu"))
        alternate(ROUNDS, http.measure, sdk.measure)
    against = f"AsyncMiningClient.call at {RATE} a second"
    for name, word, figure in (("api.p50", "median", statistics.median), ("api.p99", "p99", p99)):
        write(
            name, f"ms, {word} of a submitted task at {RATE} a second",
            [figure(values) for values in http.rounds], against,
            [figure(values) for values in sdk.rounds], wanted=WANTED,
        )  # fmt: skip


if __name__ == "__main__":
    main()
