"""Fixtures for test suites of users, and for ours: a whole stack, or one broker and a database.

Load with `pytest_plugins = ["everlode.pytest_plugin"]`. Each is started once a session, when a test
first asks for it, and stopped at its end. Data are below pytest's temporary folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from everlode.stack import NativeStack, StackProvider


@pytest.fixture(scope="session")
def everlode_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProvider]:
    """Three regions, mirrors, control cluster, object store: up. Leave it as you found it."""
    folder = _folder(tmp_path_factory)
    with NativeStack(data_dir=folder / "stack") as stack:
        stack.up()
        yield stack


@pytest.fixture(scope="session")
def everlode_small_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProvider]:
    """One broker, one PostgreSQL, one control node in region eu: up in about four seconds."""
    folder = _folder(tmp_path_factory)
    with NativeStack.small(folder / "small") as stack:
        stack.up()
        yield stack


def _folder(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("everlode")
