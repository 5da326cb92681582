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
from tests.support.processes.outputs import misfits, printed_by, verb_of
from tests.support.processes.shell import run
from tests.unit.test_docs_pages import ELSEWHERE

TUTORIAL = "docs/tutorial/first-failover.md"
LAST = "\n## Stop\n"
PAGES = tuple(
    f"docs/howto/{name}.md"
    for name in (
        "add-a-node", "switchover", "run-a-region", "rotate-keys", "restore-a-region",
        "watch-a-network",
    )
)  # fmt: skip
"""In the order in which they are typed."""
PRINTED = (
    "stack status", "stack doctor", "stack logs eu/tm-1", "status", "status clusters",
    "status --detector", "health",
    "scope explain task-manager/eu", "scope history task-manager/eu", "scope plan task-manager/eu",
    "scope switchover task-manager/eu --dry-run", "scope pause task-manager/eu",
    "scope resume task-manager/eu", "task explain task-1", "events tail --of tasks", "dlt list",
    "dlt keys", "backup list", "backup show", "backup verify --level exists", "recover plan",
    "recover list", "topology show", "topology plan network.yaml",
)  # fmt: skip
LINES = {"stack logs", "events tail"}
"""Verbs that print a document a line."""
FOUND = 20
"""A network that pages have worked on may be degraded for a while."""
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


def test_what_verbs_print_of_a_network_fits_their_schema(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setenv("EVERLODE_STACK_DIR", "stack")
    for words in map(str.split, PRINTED):
        verb = verb_of(words)
        code, out = printed_by(words)
        assert code in (0, FOUND), out
        assert misfits(verb, out, lines=verb in LINES) == []


def test_tutorial_stops_what_it_started(desk: Path) -> None:
    head, _, last = (ROOT / TUTORIAL).read_text().partition(LAST)
    (setting,) = (one for one in typed(head) if one.line.startswith("export"))
    stop = typed(last)
    assert stop
    run([setting, *stop], desk, SECONDS)


def test_every_page_with_commands_is_typed_here_or_elsewhere() -> None:
    here = {TUTORIAL, *PAGES}
    assert here & set(ELSEWHERE) == set()
    wanted = {
        str(path.relative_to(ROOT))
        for folder in ("docs/tutorial", "docs/howto")
        for path in (ROOT / folder).glob("*.md")
        if typed(path.read_text())
    }
    assert wanted == here | set(ELSEWHERE)
