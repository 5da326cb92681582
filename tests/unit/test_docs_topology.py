"""docs/topology.md has every key from the model, and every rule; running this file writes them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from everlode.stack.services import ALL
from everlode.topology import check as checking
from everlode.topology import rules, source
from everlode.topology.check import NOT_OBEYED, check
from everlode.topology.model import READERS
from everlode.topology.reference import keys

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/topology.md"
EXAMPLE = ROOT / "examples/network.yaml"
BEGIN, END = "<!-- {} begins: made by tests/unit/test_docs_topology.py -->", "<!-- {} ends -->"


def reference() -> str:
    rows = ["| key | expected | default | meaning | read by |", "|---|---|---|---|---|"]
    said: set[str] = set()
    for key in keys():
        meaning = "as above" if key.meaning in said and key.expected else key.meaning
        said.add(key.meaning)
        readers = READERS.get(key.path[-1], ()) if key.path[0] == "policies" else ()
        who = "all" if readers == tuple(ALL) else ", ".join(readers)
        cells = (f"`{'.'.join(key.path)}`", key.expected, key.default, meaning, who)
        rows.append("| " + " | ".join(cell or "–" for cell in cells) + " |")
    return "\n".join(rows)


def refused() -> str:
    rows = ["| key | why it is refused |", "|---|---|"]
    return "\n".join(rows + [f"| `{name}` | {why} |" for name, why in NOT_OBEYED.items()])


PARTS = {"reference": reference, "refused": refused}


def written(text: str) -> str:
    """The document with its made parts made anew."""
    for name, make in PARTS.items():
        head, begin, rest = text.partition(BEGIN.format(name))
        _, end, tail = rest.partition(END.format(name))
        assert begin, f"{name} is not marked"
        assert end, f"{name} has no end"
        text = f"{head}{begin}\n{make()}\n{end}{tail}"
    return text


def test_document_has_every_key_of_the_model() -> None:
    text = DOCUMENT.read_text()
    assert text == written(text), "run: python tests/unit/test_docs_topology.py"


def test_every_key_says_what_it_means() -> None:
    assert [key.path for key in keys() if not key.meaning] == []


def made() -> set[str]:
    """The rules that the code names: the second argument of whatever makes a finding."""
    found: set[str] = set()
    for module in (rules, source, checking):
        for node in ast.walk(ast.parse(Path(module.__file__ or "").read_text())):
            if isinstance(node, ast.Call) and len(node.args) == 3:
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                inner = ast.walk(node.args[1]) if name in ("Broken", "Finding", "find") else ()
                texts = (str(one.value) for one in inner if isinstance(one, ast.Constant))
                found |= {text for text in texts if text != "than"}
    return found


def test_document_names_every_rule_and_no_other() -> None:
    section = DOCUMENT.read_text().partition("## Rules")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", section, re.M)) == made()


def test_example_is_right_and_uses_every_section() -> None:
    text = EXAMPLE.read_text()
    found = check(text)
    assert found.findings == ()
    assert found.network is not None
    names = {m.name for m in found.network.members}
    for comment in re.findall(r"# ((?:eu-[a-z]+-\d, )*eu-[a-z]+-\d)$", text, re.M):
        assert {node.replace("eu-", "eu/") for node in comment.split(", ")} <= names
    assert {m.kind for m in found.network.members} == ALL.keys()
    assert "ap/tm-2" not in names
    assert "ap/tm-3" in names


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
