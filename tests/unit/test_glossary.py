"""One word for one thing: no name in the code is one that the glossary says is not used."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
CODE = sorted(p for root in ("schemas", "streams", "services") for p in (ROOT / root).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TABLE = (ROOT / "docs/glossary.md").read_text().partition("## Not used")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| (`.+?`) \| (module|class|name) \| (.+) \|$", TABLE, re.M)
BANNED = [(word, of, use) for words, of, use in ROWS for word in re.findall(r"`([\w*]+)`", words)]


class Name(NamedTuple):
    """A name in the code, and where."""

    where: str
    of: str
    text: str


def words(text: str) -> list[str]:
    """Words of an identifier in lower case: `TaskManager`, `task_manager` → task, manager."""
    return [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)]


def names(path: Path, source: str) -> Iterator[Name]:
    """Names that a module gives: its own, and those of classes, functions and arguments."""
    yield Name(path.name, "module", path.stem)
    for node in ast.walk(ast.parse(source)):
        where = f"{path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ClassDef):
            yield Name(where, "class", node.name.lstrip("_"))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield Name(where, "name", node.name)
        if isinstance(node, ast.arg):
            yield Name(where, "name", node.arg)


def refused(name: Name) -> list[str]:
    """What the glossary has against a name; empty when nothing."""
    parts = [name.text] if name.of == "class" else words(name.text)
    return [
        f"{name.where} {name.text}: {use}"
        for banned, of, use in BANNED
        if of == name.of and any(fnmatchcase(part, banned) for part in parts)
    ]


def test_code_uses_the_words_of_the_glossary() -> None:
    found = [name for path in CODE for name in names(path, path.read_text())]
    assert [text for name in found for text in refused(name)] == []


def test_tests_are_no_grab_bags() -> None:
    modules = [Name(path.name, "module", path.stem) for path in TESTS]
    assert [text for name in modules for text in refused(name)] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("string_utils", ""),
        ("helper", ""),
        ("parts", "class NodeManager: ..."),
        ("parts", "class _NodeManager: ..."),
        ("parts", "def of_master(): ..."),
        ("parts", "def of(term): ..."),
        ("parts", "async def of(*, last_msg): ..."),
        ("parts", "class A:\n    def of_slave(self): ..."),
    ],
)
def test_planted_name_is_refused(module: str, source: str) -> None:
    found = names(Path(f"{module}.py"), source)
    assert [text for name in found for text in refused(name)]


def test_names_of_the_field_pass() -> None:
    source = "class TaskManagerRecoveryEnded: ...\ndef determine(manager): ..."
    found = list(names(Path("fold.py"), source))
    assert {name.text for name in found} > {"TaskManagerRecoveryEnded", "determine", "manager"}
    assert [text for name in found for text in refused(name)] == []


def test_every_row_of_the_table_is_read() -> None:
    lines = [line for line in TABLE.splitlines() if line.startswith("| `")]
    assert len(lines) == len(ROWS) > 5
    assert len(BANNED) > 2 * len(ROWS)
