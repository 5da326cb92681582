"""Rules of the whole suite: a skip is a failure in CI, by name and reason; no timed tests.

Files with real parts come first, and short ones without fill the workers up to the end.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["everlode.pytest_plugin"]

EXAMPLES = 2_000 if os.environ.get("LONG_TESTS") else 100
"""Of a property test that does not name its own number."""

settings.register_profile(
    "everlode",
    deadline=None,
    derandomize=os.environ.get("CI") == "true",
    max_examples=EXAMPLES,
)
settings.load_profile("everlode")

PURE = ("simulation", "contract", "scenario", "unit")
"""Folders without real parts, the longest tests first."""
SHARED = "everlode_"
"""So begin fixtures whose processes work from their first use to the session's end: late ones."""
SMALL = {"everlode_small_stack", "everlode_producer"}
"""Those whose processes do little by then: 4 % of a core, where idle three regions take 31 %."""

_skipped: list[str] = []


def _turn(items: list[pytest.Item]) -> int:
    """When a file's tests run."""
    folder = items[0].path.parent.name
    if folder in PURE:
        return 3 + PURE.index(folder)
    names = {name for item in items for name in getattr(item, "fixturenames", ())}
    shared = {name for name in names if name.startswith(SHARED)}
    return bool(shared) + bool(shared - SMALL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file stays whole, and its tests in their order."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    items[:] = [item for file in sorted(files.values(), key=_turn) for item in file]


def _note(nodeid: str, longrepr: object) -> None:
    reason = longrepr[2] if isinstance(longrepr, tuple) else longrepr
    _skipped.append(f"{nodeid}: {reason}")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _note(report.nodeid, report.longrepr)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _note(report.nodeid, report.longrepr)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped:
        terminalreporter.section("skipped: each is a failure in CI")
        for line in _skipped:
            terminalreporter.line(line)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped and os.environ.get("CI") == "true":
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
