"""The tutorial and the how-tos, typed as they stand there: one network, started by the tutorial.

A page here goes on where the one before it ended, as a reader would; the tutorial's last section
stops the network, and is typed last.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from everlode.stack.native.detach import stop_detached
from tests.support.facts.pages import ROOT, saved, typed
from tests.support.processes.shell import run
from tests.unit.test_docs_pages import ELSEWHERE

TUTORIAL = "docs/tutorial/first-failover.md"
LAST = "\n## Stop\n"
PAGES = ("docs/howto/add-a-node.md", "docs/howto/switchover.md")
"""In the order in which they are typed."""
NOT_YET = {
    "docs/howto/run-a-region.md",
    "docs/howto/rotate-keys.md",
    "docs/howto/restore-a-region.md",
    "docs/howto/watch-a-network.md",
}
"""Pages whose commands were not seen to run as they stand: the roadmap says so."""
SECONDS = 100
pytestmark = pytest.mark.timeout(SECONDS + 20)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A reader's empty folder, but for the examples; the network in it ends with the module."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "examples").symlink_to(ROOT / "examples")
    try:
        yield folder
    finally:
        stop_detached(folder / "stack", 60.0)


def follow(desk: Path, text: str) -> None:
    """Save what a page says, and type its commands."""
    for name, body in saved(text).items():
        (desk / name).write_text(body)
    run(typed(text), desk, SECONDS)


def test_tutorial_does_what_it_says(desk: Path) -> None:
    follow(desk, (ROOT / TUTORIAL).read_text().partition(LAST)[0])


@pytest.mark.parametrize("page", PAGES)
def test_how_to_does_what_it_says(desk: Path, page: str) -> None:
    follow(desk, (ROOT / page).read_text())


def test_tutorial_stops_what_it_started(desk: Path) -> None:
    head, _, last = (ROOT / TUTORIAL).read_text().partition(LAST)
    (setting,) = (one for one in typed(head) if one.line.startswith("export"))
    stop = typed(last)
    assert stop
    run([setting, *stop], desk, SECONDS)


def test_every_page_with_commands_is_typed_here_or_elsewhere() -> None:
    here = {TUTORIAL, *PAGES}
    assert here & set(ELSEWHERE) == here & NOT_YET == set()
    wanted = {
        str(path.relative_to(ROOT))
        for folder in ("docs/tutorial", "docs/howto")
        for path in (ROOT / folder).glob("*.md")
        if typed(path.read_text())
    }
    assert wanted == here | set(ELSEWHERE) | NOT_YET
