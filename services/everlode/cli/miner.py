"""`everlode miner explain`: what a miner is, and why it gets the work that it gets."""

from __future__ import annotations

from typing import Annotated

import typer

from everlode.cli.explained import explain_one
from everlode.cli.options import Dir, Json, SeenFrom, noun

app = noun("Miners.")


@app.command()
def explain(
    miner_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="The miner's id, or its name where one home alone has it."
        ),
    ],
    seen_from: SeenFrom = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Show a miner's state, its last events with their places, and what it works on.

    Of the tasks that wait in its region: how many it may take, and how many not, by reason. Exit
    code 10 when no projection has the miner. Example: everlode miner explain eu/miner-1 --json
    """
    explain_one("miners", miner_id, seen_from, folder, as_json)
