"""`everlode miner explain`: what a miner is, and why it gets the work that it gets."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from everlode.cli.explained import show
from everlode.cli.options import Dir, Json, SeenFrom, noun, stack_dir
from everlode.settings.endpoints import Endpoints
from everlode.views.explain import explained

app = noun("Miners.")


@app.command()
def explain(
    miner_id: Annotated[str, typer.Argument(metavar="ID", help="The miner's id.")],
    seen_from: SeenFrom = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Show a miner's state, its last events with their places, and what it works on.

    Of the tasks that wait in its region: how many it may take, and how many not, by reason. Exit
    code 10 when no projection has the miner. Example: everlode miner explain miner-1 --json
    """
    found = explained(Endpoints.load(stack_dir(folder)), "miners", miner_id, seen_from)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        show(found)
