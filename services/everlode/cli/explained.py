"""How `explain` of a task and of a miner is shown to people. Shell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from everlode.cli.options import stack_dir
from everlode.cli.tables import Grid, screen
from everlode.settings.endpoints import Endpoints
from everlode.views.explain import explained
from everlode.views.said import said

EVENT = ("version", "event", "at", "place", "seq")


def explain_one(
    component: str, key: str, seen_from: str | None, folder: Path | None, as_json: bool
) -> None:
    """Print what there is to say about a task or miner. Raises: see `explained`."""
    found = explained(Endpoints.load(stack_dir(folder)), component, key, seen_from)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        show(found)


def show(found: dict[str, Any]) -> None:
    """Each field in a row, what is nested in rows below it; then the last events."""
    console = screen()
    table = Grid(show_header=False, box=None)
    for name, value in found.items():
        if name == "events":
            continue
        if isinstance(value, dict):
            table.add_row(name.replace("_", " "), "" if value else "none")
            for inner, each in value.items():
                table.add_row(f"  {inner.replace('_', ' ')}", said(each))
        else:
            table.add_row(name.replace("_", " "), said(value))
    console.print(table)
    events = Grid(*EVENT, title="last events")
    for event in found["events"]:
        events.add_row(*(str(event[name]) for name in EVENT))
    console.print(events)
