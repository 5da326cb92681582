"""How `explain` of a task and of a miner is shown to people. Shell."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

EVENT = ("version", "event", "at", "place", "seq")


def show(found: dict[str, Any]) -> None:
    """Each field in a row, what is nested in rows below it; then the last events."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table(show_header=False, box=None)
    for name, value in found.items():
        if name == "events":
            continue
        if isinstance(value, dict):
            table.add_row(name.replace("_", " "), "" if value else "none")
            for inner, each in value.items():
                table.add_row(f"  {inner.replace('_', ' ')}", _text(each))
        else:
            table.add_row(name.replace("_", " "), _text(value))
    console.print(table)
    events = Table(*EVENT, title="last events", title_justify="left")
    for event in found["events"]:
        events.add_row(*(str(event[name]) for name in EVENT))
    console.print(events)


def _text(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{k}: {_text(v)}" for k, v in value.items()) or "none"
        case list():
            return "\n".join(_text(item) for item in value) or "none"
        case _:
            return str(value)
