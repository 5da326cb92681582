"""`everlode task explain`: what a task is, and what it waits for."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from everlode.cli.explained import show
from everlode.cli.options import Dir, Json, SeenFrom, noun, stack_dir
from everlode.settings.endpoints import Endpoints
from everlode.views.explain import explained

app = noun("Tasks.")


@app.command()
def explain(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="The task's id.")],
    seen_from: SeenFrom = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Show a task's state, its last events with their places, and what it waits for.

    Of a task that waits for a miner: how many miners are excluded, by reason, and how many of them
    are silent. Exit code 10 when no projection has the task. Example: everlode task explain task-1
    """
    found = explained(Endpoints.load(stack_dir(folder)), "tasks", task_id, seen_from)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        show(found)
