"""Fixtures for test suites of users, and for ours: a whole stack, a running region, its faults.

Load with `pytest_plugins = ["everlode.pytest_plugin"]`, or `pytest -p everlode.pytest_plugin`. Each
stack is started once a session, when a test first asks for it, and stopped at its end; with xdist
each worker has its own. Data are below pytest's temporary folder. docs/testing.md shows a suite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path

import pytest

from everlode.pytest_plugin.network import Faults, RecoveryEvents, Region, running, start_services
from everlode.sdk import EventProducer, MiningClient
from everlode.stack import NativeStack, StackProvider

SERVICES = {
    "coordinator": 1, "detector": 1, "projector": 1, "task-manager": 2, "miner-registry": 2,
    "validator": 3, "reward-distributor": 2,
}  # fmt: skip
"""What runs in `everlode_region`: two nodes of each service, so that one may be lost."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """See pytest."""
    group = parser.getgroup("everlode", "a network to test against")
    group.addoption(
        "--everlode-stack", metavar="DIR", type=Path, default=None,
        help="folder of a running stack (`everlode stack up --services all --dir DIR`): "
        "everlode_region takes it instead of starting one, and breaks nothing in it",
    )  # fmt: skip
    group.addoption(
        "--everlode-region", metavar="NAME", default=None,
        help="region of that stack; its first without",
    )  # fmt: skip


@pytest.fixture(scope="session")
def everlode_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProvider]:
    """Three regions, mirrors, control cluster, object store: up. Leave it as you found it."""
    folder = _folder(tmp_path_factory)
    with NativeStack(data_dir=folder / "stack") as stack:
        stack.up()
        yield stack
        stack.down(at_once=True)


@pytest.fixture(scope="session")
def everlode_small_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProvider]:
    """One broker, one PostgreSQL, one control node in region eu: up in about four seconds."""
    folder = _folder(tmp_path_factory)
    with NativeStack.small(folder / "small") as stack:
        stack.up()
        yield stack
        stack.down(at_once=True)


@pytest.fixture(scope="session")
def everlode_region(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Region]:
    """Region eu with all its services, each led by one of two nodes; or that of a running stack."""
    given: Path | None = request.config.getoption("--everlode-stack")
    if given is not None:
        yield running(given, request.config.getoption("--everlode-region"))
        return
    with NativeStack.small(_folder(tmp_path_factory) / "region") as stack:
        yield start_services(stack, stack.up(), SERVICES)
        stack.down(at_once=True)


@pytest.fixture
def everlode_client(everlode_region: Region) -> Iterator[MiningClient]:
    """A client of the region, named suite-client."""
    with MiningClient(everlode_region.endpoints, everlode_region.name, "suite-client") as client:
        yield client


@pytest.fixture
def everlode_events(everlode_region: Region) -> Iterator[RecoveryEvents]:
    """The region's recovery and health events from now on: `wait(TaskManagerRecoveryEnded)`."""
    with closing(RecoveryEvents(everlode_region)) as events:
        yield events


@pytest.fixture
def everlode_faults(everlode_region: Region) -> Iterator[Faults]:
    """`kill`, `pause`, `resume`, `restart` by name; what is broken is mended after the test."""
    faults = Faults(everlode_region)
    try:
        yield faults
    finally:
        faults.heal()


@pytest.fixture
def everlode_producer(
    everlode_small_stack: StackProvider, _everlode_epochs: Iterator[int]
) -> Iterator[Callable[[str], EventProducer]]:
    """`everlode_producer("tasks")`: who appends facts of a component, where no service does.

    Of the small stack, for suites of what reads facts. Each call fences the one before it.
    """
    endpoints = everlode_small_stack.endpoints
    if endpoints is None:
        pytest.fail("the small stack was stopped")
    (region,) = endpoints.regions
    with ExitStack() as ending:
        yield lambda component: ending.enter_context(
            EventProducer(endpoints, region, component, epoch=next(_everlode_epochs))
        )


@pytest.fixture(scope="session")
def _everlode_epochs() -> Iterator[int]:
    return count(1)


def _folder(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("everlode")
