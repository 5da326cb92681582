"""SQL that changes something stands in the adapters; what only reads, where it has its meaning."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = ("services/everlode/adapters/", "streams/everlode/projection/tables.py")
WRITES = re.compile(
    r"\s*(insert into|update|delete from|truncate|alter|create|drop|copy)\b.*(\{g\}|everlode\.)"
)


def writing(text: str) -> set[int]:
    """Lines of string literals that are statements which change something."""
    return {
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant | ast.JoinedStr) and WRITES.match(literal(node))
    }


def literal(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    parts = (str(p.value) if isinstance(p, ast.Constant) else "{g}" for p in node.values)
    return "".join(parts)


@pytest.mark.parametrize("root", ["schemas", "streams", "services"])
def test_sql_that_writes_stands_in_the_adapters(root: str) -> None:
    found = {
        name: lines
        for path in sorted((ROOT / root / "everlode").rglob("*.py"))
        if (lines := writing(path.read_text()))
        and not (name := path.relative_to(ROOT).as_posix()).startswith(ALLOWED)
    }
    assert found == {}


def test_sql_that_writes_is_recognised() -> None:
    assert writing((ROOT / ALLOWED[0] / "postgres_next.py").read_text())
    assert writing('db.query("update {g}.tasks set version = 0")') == {1}
    assert writing('db.query(f"delete from {{g}}.{component}")') == {1}
    assert writing('db.query("select key from {g}.tasks")') == set()
