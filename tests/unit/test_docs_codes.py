"""docs/format.md lists every code that an answer may have, and no other."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.support.facts.codes import documented

ROOT = Path(__file__).parents[2]
READING = ("schemas/everlode/avro/unread.py", "schemas/everlode/avro/codec.py")
DECIDING = (
    "services/everlode/primary/batch.py", "schemas/everlode/events/door.py",
    "schemas/everlode/events/ids.py", "services/everlode/log/contents.py",
)  # fmt: skip
OF_OTHERS = {
    "not_a_state", "not_an_answer", "not_an_event", "incompatible_schema", "invalid",
    "wrong_topic", "unwritable",
}  # fmt: skip
"""Codes of the codec that no answer has."""
RULES = [
    *(ROOT / "streams/everlode/state").glob("*.py"),
    ROOT / "schemas/everlode/events/tasktypes.py",
    ROOT / "schemas/everlode/events/stamp.py",
    ROOT / "services/everlode/primary/runtime.py",
    ROOT / "services/everlode/rewards/component.py",
]


def text(node: ast.expr | None) -> set[str]:
    """The text that stands there; empty when there is none."""
    constant = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return {node.value} if constant else set()  # type: ignore[union-attr]


def codes(path: Path) -> set[str]:
    """Codes of the refusals and contract errors that a module makes."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign):
            names = [t.id for t in node.targets if isinstance(t, ast.Name)]
            found |= text(node.value) if names == ["default_code"] else set()
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        first = text(node.args[0]) if node.args else set()
        if node.func.id == "refuse":
            found |= first
        if node.func.id == "missing":
            found |= {f"no_{kind}" for kind in first}
        if node.func.id in ("Refusal", "ContractError", "NotFound"):
            found |= {code for k in node.keywords if k.arg == "code" for code in text(k.value)}
    return found


def test_format_lists_every_code_of_an_answer_and_no_other() -> None:
    modules = [*RULES, *(ROOT / name for name in (*READING, *DECIDING))]
    made = set().union(*(codes(path) for path in modules)) - OF_OTHERS - {"no_aggregate"}
    assert made - documented() == set(), "not in docs/format.md"
    assert documented() - made == set(), "nothing answers so"
