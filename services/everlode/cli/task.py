"""`everlode task explain`: what a task is, and what it waits for."""

from __future__ import annotations

from typing import Annotated

import typer

from everlode.cli.explained import explain_one
from everlode.cli.options import Dir, Json, SeenFrom, noun

app = noun("Tasks.")


@app.command()
def explain(
    task_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="The task's id, or its name where one home alone has it."
        ),
    ],
    seen_from: SeenFrom = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Show a task's state, its last events with their places, and what it waits for.

    Of a task that waits for a miner: how many miners are excluded, by reason, and how many of them
    are silent. Exit code 10 when no projection has the task.
    Example: everlode task explain eu/task-1
    """
    explain_one("tasks", task_id, seen_from, folder, as_json)
