"""docs/damage.md, made from the cells."""

from __future__ import annotations

from pathlib import Path

from tests.support.damage.cells import CELLS, NOT_DONE, THINGS, VERBS, Cell

DOCUMENT = Path(__file__).parents[3] / "docs" / "damage.md"
HEAD = """\
# Damage

What `backup create`, `backup verify`, `recover run` and `stack doctor` answer when something is
damaged. Made from `tests/support/damage/cells.py` by `python -m tests.support.damage`. Every line
is carried out on a real Kafka, PostgreSQL and S3 server by `tests/faults/test_damage.py`: one of
each table in `make test`, all of them in `make test-long`.

The region has two backups (an older one and the latest), facts behind the latest that are
projected, and an epoch that was opened between the two, with a fact that it fences. One thing is
damaged; then each verb is asked. A recovery is asked for the latest backup from before the damage;
that of a journal or of staging had been interrupted when it had replayed the tasks.

| answer | meaning |
|---|---|
| **equal** | success; what was made was compared with what it must be, and is equal |
| **equal; 20** … | the same; the exit code says that something was found, and it is named |
| 3 held: … | the recovery has switched nothing; the kinds of what was found |
| 1, 2, 10 to 14 … | an error, its exit code and `code`: no new backup, nothing switched |
| 20 … | what `doctor` names, by the key of its `--json`; of contents by their `kind` |
| nothing named | `doctor` finds nothing, of topics, mirrors, readers and contents |
| **UNEQUAL** | success, and the contents differ: an open defect, explained below its table |
| – | not asked: the verb does not read it |

**Equal** is judged by the test, not by the product. Of a backup the objects are opened: their
states are those that the written facts lead to by the proof's own rules, its positions are where
the writer stood, its fences are those that were opened; of one that is verified the bytes in the
store are those of when it was made. Of a recovery the rows of the generation that is current are
byte by byte those from before the damage, and what the facts lead to; its state topics hold its
rows; its report names no loss, and the backup that was asked for.

Where a success is equal though something is gone, the verb does not need it: rows and state topics
hold the same states, and so do a backup and the log behind it.
"""


def _row(cell: Cell) -> str:
    shown = [_answer(text) for text in cell.answers]
    return f"| {cell.damage} | {cell.done} | {' | '.join(shown)} |"


def _answer(text: str) -> str:
    for word in ("equal; 20", "equal", "UNEQUAL"):
        if text.startswith(word):
            return f"**{word}**{text[len(word) :]}"
    return {"": "–", "quiet": "nothing named"}.get(text, text)


def _notes(thing: str) -> list[str]:
    """One a text, with the damages that it is about."""
    about: dict[str, list[str]] = {}
    for cell in CELLS:
        if cell.thing == thing and cell.note:
            about.setdefault(cell.note, []).append(cell.damage)
    return [f"*{', '.join(of).capitalize()}*: {note}" for note, of in about.items()]


def _section(thing: str) -> list[str]:
    lines = [
        "",
        f"## {thing.capitalize()}",
        "",
        f"| damage | what was done | {' | '.join(VERBS)} |",
    ]
    lines.append("|---" * (2 + len(VERBS)) + "|")
    lines += [_row(cell) for cell in CELLS if cell.thing == thing]
    notes = _notes(thing)
    notes += [f"*{damage.capitalize()}*: not done, {why}"
              for (of, damage), why in NOT_DONE.items() if of == thing]  # fmt: skip
    return [*lines, *(line for note in notes for line in ("", note))]


def document() -> str:
    """The whole text."""
    return "\n".join([HEAD.rstrip(), *(line for t in THINGS for line in _section(t)), ""])
