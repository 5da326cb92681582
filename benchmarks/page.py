"""How long the overview of a large network takes: 100 scopes, 10,000 nodes.

Against that of a small one, 4 scopes and 8 nodes, in turn. Each is served by a process of its own
over a control log that was folded before; what others asked for within half a second is not given
again. `page.server`: ms from a request to the last byte, 95 of 100, of 100 requests a round one
after another. `page.paint`: ms to the first contentful paint in Chromium, a new context each.
`page.wire`: kB of the page with its style and script, as they are sent.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import Browser

from benchmarks._child import Child
from benchmarks.result import alternate, write
from tests.support.processes.chromium import chromium, opened

CHILD = "benchmarks._page_child"
LARGE, SMALL = ("100", "10000"), ("4", "8")
ROUNDS, REQUESTS = 5, 100
WANTED = {"server": 50.0, "paint": 1000.0, "wire": 200.0}
PAINTED_WITHIN_S = 10.0
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1"


class Page(Child):
    """A server, and what was measured of its page."""

    def __init__(self, folder: Path, browser: Browser, *size: str) -> None:
        name = f"page-{size[1]}"
        super().__init__(name, [sys.executable, "-m", CHILD, *size], folder / f"{name}.log")
        self._browser = browser
        self.found: dict[str, list[float]] = {figure: [] for figure in WANTED}

    def __enter__(self) -> Page:
        self.address = self._said().strip().strip('"')
        for path in ("/", "/overview"):  # templates are compiled, scores computed
            self._get(path)
        return self

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.address + path) as answer:  # noqa: S310 - the loopback
            return bytes(answer.read())

    def measure(self) -> float:
        """One round; its p95 of the server."""
        took = []
        for _ in range(REQUESTS):
            began = time.perf_counter()
            self._get("/")
            took.append((time.perf_counter() - began) * 1000)
        self.found["server"].append(statistics.quantiles(took, n=20)[-1])
        parts = [self._get(path) for path in ("/", "/page.css", "/page.js")]
        self.found["wire"].append(sum(map(len, parts)) / 1000)
        page, _ = opened(self._browser)
        page.goto(self.address)
        ends = time.monotonic() + PAINTED_WITHIN_S  # its policy lets no waiting function be made
        while (painted := page.evaluate(PAINTED)) < 0 and time.monotonic() < ends:
            time.sleep(0.02)
        self.found["paint"].append(painted if painted >= 0 else math.inf)
        page.close()
        return self.found["server"][-1]


def main() -> None:
    """Both pages, rounds in turn."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="everlode-bench-")))
        browser = stack.enter_context(chromium())
        ours = stack.enter_context(Page(folder, browser, *LARGE))
        small = stack.enter_context(Page(folder, browser, *SMALL))
        alternate(ROUNDS, ours.measure, small.measure)
    for figure, unit in (
        ("server", "ms, p95 of a page from request to last byte"),
        ("paint", "ms to the first contentful paint"), ("wire", "kB sent for a page"),
    ):  # fmt: skip
        write(
            f"page.{figure}", f"{unit}, 100 scopes, 10,000 nodes", ours.found[figure],
            "the page of 4 scopes and 8 nodes", small.found[figure], wanted=WANTED[figure],
        )  # fmt: skip


if __name__ == "__main__":
    main()
