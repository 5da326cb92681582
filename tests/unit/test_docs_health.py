"""docs/health.md has its weights from the code; running this file writes them."""

from __future__ import annotations

from pathlib import Path

from everlode.health import weights as w

DOCUMENT = Path(__file__).parents[2] / "docs" / "health.md"
BEGIN, END = "<!-- made from everlode.health.weights -->", "<!-- end -->"


def tables() -> str:
    parts = []
    for title, kinds in (("A node", w.NODE), ("A component", w.COMPONENT)):
        rows = [f"| `{name}` | {k.weight:g} | {k.meaning} |" for name, k in kinds.items()]
        parts.append("\n".join([f"**{title}**\n", "| evidence | weight | value |", "|---|---|---|",
                                *rows, ""]))  # fmt: skip
    rows = [f"| `{name}` | {weight:g} |" for name, weight in w.REGION.items()]
    parts.append("\n".join(["**A region**\n", "| component | weight |", "|---|---|", *rows, ""]))
    values = ", ".join(f"{name} {value:g}" for name, value in w.STATUS.items())
    parts.append(f"Values of a status: {values}.\n\nWhat is not known counts {w.UNKNOWN:g} beside "
                 f"other evidence. The gate is {w.GATE:g}: better is well enough.\n")  # fmt: skip
    return "\n".join(parts)


def document(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def test_health_document_has_the_weights_of_the_code() -> None:
    text = DOCUMENT.read_text()
    assert text == document(text), "run: python tests/unit/test_docs_health.py"


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text()))
