"""What verbs print for people: whole on a terminal, piped and narrow; `--watch` looks again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from everlode.cli import status
from everlode.cli.main import run
from everlode.cli.tables import Grid, screen
from everlode.views.onelook import OneLook
from tests.support.processes.outputs import misfits

LONG = "eu-miner-registry-with-a-rather-long-name-1"
HOSTILE = ("[red]a[/red]", "b[/]", "c\x1b[31m\x07", "d\u202e")
SCOPE = {
    "scope": "miner-registry/eu", "epoch": 12, "primary": LONG, "status": "healthy",
    "reason": None, "now": None, "frozen": False, "paused_until": None, "cools_until": None,
}  # fmt: skip
NODE = {
    "node_id": LONG, "region": "eu", "component": "miner-registry", "role": "primary",
    "status": "healthy", "beats": True, "queue": 0, "load": 0.1, "acknowledged_by": None,
}  # fmt: skip
LOOK = OneLook("2026-01-01T00:00:00+00:00", [], [], [SCOPE], [NODE], [], [], [])


def printed(capsys: pytest.CaptureFixture[str], *rows: tuple[Any, ...]) -> str:
    table = Grid("a_name", "another", title="[x]")
    for row in rows:
        table.add_row(*row)
    capsys.readouterr()
    screen().print(table)
    return capsys.readouterr().out


@pytest.fixture(params=["40", "80", "200"])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", request.param)
    return int(request.param)


def test_row_that_is_piped_is_one_line_whatever_the_width(
    width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, (LONG, LONG * 3), (1, None))
    assert any(LONG in line and LONG * 3 in line for line in out.splitlines())
    assert "a name" in out
    assert "[x]" in out
    assert out.count("\n") == 7


def test_cell_at_a_terminal_is_whole_and_no_line_is_too_long(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # as rich sees a terminal
    out = re.sub("\x1b\\[[0-9;]*m", "", printed(capsys, (LONG, "x" * 90)))
    assert max(map(len, out.splitlines())) <= width
    cells = [line.split("│")[1:3] for line in out.splitlines() if line.startswith("│")]
    whole = ["".join(part.strip() for part in column) for column in zip(*cells, strict=True)]
    assert whole == [LONG, "x" * 90]


def test_what_others_have_named_is_text_and_moves_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = printed(capsys, HOSTILE[:2], HOSTILE[2:])
    assert all(text in out for text in (*HOSTILE[:2], "c\\x1b[31m\\x07", "d\\u202e"))
    assert [c for c in out if not c.isprintable() and c != "\n"] == []


def test_status_shows_names_whole_and_no_column_without_a_value(
    width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    status._show_look(LOOK, False)
    out = capsys.readouterr().out
    assert out.count(LONG) == 2
    assert "miner-registry/eu" in out
    assert "cools until" not in out
    assert "all is well" in out


def test_watch_looks_again_until_it_is_interrupted_a_line_of_json_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def looks() -> Iterator[OneLook]:
        yield LOOK
        yield LOOK._replace(problems=["worse"])
        raise KeyboardInterrupt

    seen, slept = looks(), list[float]()
    monkeypatch.setattr(status, "one_look", lambda _: next(seen))
    monkeypatch.setattr(status, "Endpoints", SimpleNamespace(load=lambda _: None))
    monkeypatch.setattr(status, "time", SimpleNamespace(sleep=slept.append))
    assert run(["status", "--watch", "--every", "7", "--json", "--dir", "."]) == 130
    lines = capsys.readouterr().out.splitlines()
    assert [misfits("status", line) for line in lines[:2]] == [[], []]
    assert ['"worse"' in line for line in lines[:2]] == [False, True]
    assert slept == [7, 7]
