"""The book of what is healed in a stack: it outlives who keeps it. Shell: one file.

Invariants: a supervisor that takes over finds every loss that counts, and what was given up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from everlode.stack.healing import Exit

BOOK = "healing.json"


@dataclass
class Kept:
    """One process that is kept running."""

    kind: str
    exits: list[Exit] = field(default_factory=list)
    restarts: int = 0
    """Starts after a loss, since `stack up`."""
    lost_at_s: float = 0.0
    """Since 1970; 0 while it is not lost."""
    started_at_s: float = 0.0
    why: str = ""
    """Why it does not run; empty while it does."""
    given_up: bool = False


def write_book(folder: Path, book: Mapping[str, Kept]) -> None:
    """Replace the book."""
    draft = folder / f"{BOOK}.tmp"
    draft.write_text(json.dumps({name: asdict(kept) for name, kept in book.items()}, indent=1))
    os.replace(draft, folder / BOOK)


def read_book(folder: Path) -> dict[str, Kept]:
    """What was written last, by name; empty when nothing was."""
    try:
        found = json.loads((folder / BOOK).read_text())
        return {name: _kept(row) for name, row in found.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _kept(row: Mapping[str, object]) -> Kept:
    exits = row["exits"]
    if not isinstance(exits, list):
        raise TypeError("exits")
    return Kept(**{**row, "exits": [Exit(*pair) for pair in exits]})  # type: ignore[arg-type]
