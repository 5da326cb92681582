"""docs/states.md is made from the transition tables; running this file writes it."""

from __future__ import annotations

from pathlib import Path

from everlode.events.nodes import TRANSITIONS as NODES
from everlode.state import fraud, miner, reward, task, validation
from everlode.state.shape import Table

DOCUMENT = Path(__file__).parents[2] / "docs" / "states.md"
HEAD = """\
# States

Made from the transition tables in the code, which the folds follow; tests compare all three. An
event that a diagram does not show from a status cannot be decided there. Events in the table below
a diagram keep the status. In brackets: which events of that name, where they do not lead alike.
"""
TABLES: dict[str, tuple[str, Table]] = {
    "Task": ("", task.TRANSITIONS),
    "Miner": ("", miner.TRANSITIONS),
    "Validation": ("", validation.TRANSITIONS),
    "Fraud case": ("", fraud.TRANSITIONS),
    "Reward": ("A booked slash is an entry of its own, `collected`.", reward.TRANSITIONS),
}


def diagram(lines: list[str]) -> str:
    return "\n".join(["```mermaid", "stateDiagram-v2", *(f"  {x}" for x in lines), "```", ""])


def aggregate(title: str, note: str, table: Table) -> str:
    moves, keeps = [], []
    for (event, variant), row in table.items():
        shown = f" ({variant})" if variant else ""
        sources = sorted(row.sources, key=lambda s: s or "")
        if row.target is None:
            keeps.append(
                f"| `{event.__name__}`{shown} | {', '.join(s or 'none' for s in sources)} |"
            )
            continue
        moves += [
            f"{source or '[*]'} --> {row.target}: {event.__name__}{shown}" for source in sources
        ]
    parts = [f"## {title}\n", *([note + "\n"] if note else []), diagram(moves)]
    if keeps:
        parts.append("\n".join(["| keeps the status | from |", "|---|---|", *keeps, ""]))
    return "\n".join(parts)


def nodes() -> str:
    moves = [
        f"{source} --> {target}" for source, targets in NODES.items() for target in sorted(targets)
    ]
    return f"## Node\n\n{diagram(['[*] --> joining', *moves])}"


def document() -> str:
    sections = [aggregate(title, note, table) for title, (note, table) in TABLES.items()]
    return "\n".join([HEAD, *sections, nodes()])


def test_states_document_is_made_from_the_tables() -> None:
    assert DOCUMENT.read_text() == document(), "run: python tests/unit/test_docs_states.py"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
