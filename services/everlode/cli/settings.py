"""`everlode settings`: every setting, what it is now, and where that comes from."""

from __future__ import annotations

import json

import typer

from everlode.cli.options import Dir, Json, stack_dir
from everlode.cli.tables import Grid, screen
from everlode.errors import NotFound
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import settings, shown

app = typer.Typer(add_completion=False)


@app.command("settings")
def settings_(folder: Dir = None, as_json: Json = False) -> None:
    """Show all settings, their values and sources: environment, stack, file or default.

    Passwords in addresses are hidden. A variable EVERLODE_* that is not on the list is an error.
    Example: everlode settings --json
    """
    try:
        stack = Endpoints.load(stack_dir(folder))
    except NotFound:
        stack = None
    rows = shown(settings(), stack)
    if as_json:
        typer.echo(json.dumps({"settings": [row._asdict() for row in rows]}, indent=2))
        return
    table = Grid("setting", "value", "source", "meaning", box=None)
    for row in rows:
        value = "not set" if row.value is None else row.value
        table.add_row(row.name, value, row.source, row.meaning)
    screen().print(table)
