"""Tables for people: whole at any width, and nothing in them moves a terminal.

Piped, a row is one line, however long. At a terminal that is too narrow a cell goes on below
itself: nothing is cut. What others have named is shown as text, never as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED = 10_000
"""Characters of a line that nobody's window bounds; a table takes what it needs of it."""


def printable(value: object, kept: str = "") -> str:
    """As text in which nothing moves a terminal, but for the characters that are `kept`. Pure."""
    return "".join(c if c.isprintable() or c in kept else ascii(c)[1:-1] for c in str(value))


def screen(*, stderr: bool = False) -> Console:
    """Where tables are printed."""
    console = Console(highlight=False, soft_wrap=True, markup=False, stderr=stderr)
    if not console.is_terminal:
        console.width = PIPED
    return console


class Grid(Table):
    """A table of these columns; without any, of as many as its rows have. None is an empty cell."""

    def __init__(self, *columns: str, **options: Any) -> None:
        super().__init__(title_justify="left", **options)
        for name in columns:
            self.add_column(name.replace("_", " "), overflow="fold")

    @classmethod
    def of(
        cls, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], title: str | None = None
    ) -> Self:
        """These columns of rows that have them by name."""
        table = cls(*columns, title=title)
        for row in rows:
            table.add_row(*(row[name] for name in columns))
        return table

    def add_row(self, *cells: Any, **options: Any) -> None:
        """See Table."""
        while len(self.columns) < len(cells):
            self.add_column(overflow="fold")
        shown = ("" if cell is None else cell for cell in cells)
        whole = [c if isinstance(c, Text) else Text(printable(c, "\n")) for c in shown]
        super().add_row(*whole, **options)
