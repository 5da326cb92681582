"""House style that a machine can check: sizes, names, docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE_LINES = 400
FUNCTION_LINES = 70
VAGUE = {"utils", "util", "common", "manager", "helper", "helpers", "misc"}
CODE = sorted(
    path for root in ("schemas", "streams", "services") for path in (ROOT / root).rglob("*.py")
)
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines without the docstring: saying more must not cost anything."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    spared = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - spared


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_modules_of_the_code_are_at_most_400_lines() -> None:
    lines = {name(path): len(path.read_text().splitlines()) for path in CODE}
    assert {path: count for path, count in lines.items() if count > MODULE_LINES} == {}


@pytest.mark.parametrize("paths", [CODE, TESTS], ids=["code", "tests"])
def test_functions_are_at_most_70_lines(paths: list[Path]) -> None:
    long = {
        f"{name(path)}:{function.lineno} {function.name}": length
        for path in paths
        for function in functions(path)
        if (length := lines_of(function)) > FUNCTION_LINES
    }
    assert long == {}


def test_modules_say_what_they_are() -> None:
    silent = [name(path) for path in CODE if ast.get_docstring(ast.parse(path.read_text())) is None]
    assert silent == []


def test_module_names_are_no_grab_bags() -> None:
    assert [name(path) for path in [*CODE, *TESTS] if path.stem in VAGUE] == []


def test_test_files_have_unique_names() -> None:
    stems = [path.stem for path in TESTS if path.stem != "conftest"]
    assert {stem for stem in stems if stems.count(stem) > 1} == set()
