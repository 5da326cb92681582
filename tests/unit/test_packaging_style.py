"""House style that a machine can check: sizes, names, docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE_LINES = 400
MODULE_LINES_P90 = 250
"""What is read in one go: few modules may be longer."""
FUNCTION_LINES = 70
ARGUMENTS = 5
"""Beyond five a call is read by counting commas: what belongs together wants to be a record."""
MORE_ARGUMENTS = {
    "adapters/postgres.py Projection.apply": "all that one transaction writes; a record is due",
    "adapters/postgres_batch.py Batch.write": "all that one transaction writes; as above",
    "backup/verify.py verify": "store, keys and which backup, each by itself in tests",
    "fleet/forked.py Forked.__init__": "a process is as many things as the system wants of one",
    "recovery/operation.py recover": "the parts that the command puts together, once",
    "stack/native/postgres.py command": "what PostgreSQL wants on its command line",
    "validations/validator.py Validator.__init__": "a thread's parts; put together once, by a node",
}
"""Functions that take more, each with its reason."""
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


def arguments_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Arguments that may be given by position, without self; keywords name themselves."""
    names = [arg.arg for arg in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """True of what typer calls: its arguments are the options of the command line."""
    calls = (node.func for node in function.decorator_list if isinstance(node, ast.Call))
    return any(
        isinstance(call, ast.Attribute) and call.attr in ("command", "callback") for call in calls
    )


def qualified(
    node: ast.AST, where: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions with the classes and functions that they stand in: `Class.method`."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from qualified(child, where)
            continue
        if not isinstance(child, ast.ClassDef):
            yield f"{where}{child.name}", child
        yield from qualified(child, f"{where}{child.name}.")


def test_modules_of_the_code_are_at_most_400_lines() -> None:
    lines = {name(path): len(path.read_text().splitlines()) for path in CODE}
    assert {path: count for path, count in lines.items() if count > MODULE_LINES} == {}


def test_nine_of_ten_modules_are_read_in_one_go() -> None:
    lines = sorted(len(path.read_text().splitlines()) for path in CODE)
    p90 = lines[len(lines) * 9 // 10]
    assert p90 <= MODULE_LINES_P90


def test_functions_take_at_most_5_arguments_but_for_a_reason() -> None:
    many = {
        f"{path.relative_to(ROOT).as_posix().partition('everlode/')[2]} {full}"
        for path in CODE
        for full, function in qualified(ast.parse(path.read_text()))
        if arguments_of(function) > ARGUMENTS and not is_command(function)
    }
    assert many - set(MORE_ARGUMENTS) == set(), "make a record of what belongs together"
    assert set(MORE_ARGUMENTS) - many == set(), "not needed any more: strike it from the list"


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


def test_test_files_have_unique_names() -> None:
    stems = [path.stem for path in TESTS if path.stem != "conftest"]
    assert {stem for stem in stems if stems.count(stem) > 1} == set()
