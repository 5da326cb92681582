"""Rules of the whole suite: a skip is a failure in CI, by name and reason; no timed tests.

Files with real parts come first, two at a time. Their processes wait about as long as they work: of
three workers the last one has what fills that time, files of `WAITING` and then those without real
parts, these at a lower priority, so that nobody waits for a core because of them.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

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
WAITING = {
    "test_kafka_access.py", "test_kafka_rights.py", "test_primary_faults.py",
    "test_projection_processes.py", "test_sdk_live.py", "test_snapshots.py",
    "test_states_and_rows.py",
}  # fmt: skip
"""Files with one small stack at a time, whose processes use less than half a core."""
ONE_REGION = {"test_examples.py", "test_users_suite.py"}
"""Files that one worker has: the region that they use is started once."""
BUSY_WORKERS = 2
"""So many have any file; those beyond them fill up."""
NICENESS = 15
"""Of tests that fill up: about a thirtieth of a core when others want all of it."""

_skipped: list[str] = []


def _turn(items: list[pytest.Item]) -> int:
    """When a file's tests run."""
    folder = items[0].path.parent.name
    if folder in PURE:
        return 4 + PURE.index(folder)
    names = {name for item in items for name in getattr(item, "fixturenames", ())}
    shared = {name for name in names if name.startswith(SHARED)}
    if shared:
        return 2 + bool(shared - SMALL)
    return int(items[0].path.name in WAITING)


def _fills(worker: str, workers: int) -> bool:
    """Whether a worker of this name has nothing but what fills up."""
    return worker in {f"gw{n}" for n in range(BUSY_WORKERS, workers)}


class Filling(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """A file to a worker, in order; those that fill up leave out what keeps a core busy."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        if _fills(node.gateway.id, self.numnodes):
            light = (f for f in map(PurePath, self.workqueue) if f.name in WAITING or _pure(f))
            file = next(light, None)
            if file is None:
                node.shutdown()
                return
            self.workqueue.move_to_end(file.as_posix(), last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "one region" if PurePath(file).name in ONE_REGION else file


def _pure(file: PurePath) -> bool:
    return file.parent.name in PURE


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    return Filling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    given = getattr(item.config, "workerinput", {"workerid": "", "workercount": 0})
    fills = _fills(given["workerid"], given["workercount"])
    if fills and _pure(item.path) and os.nice(0) < NICENESS:
        os.nice(NICENESS)


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
