"""`everlode health`: how well the network is, as scores from 0 to 1 with their evidence."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from everlode.cli.options import Dir, Json, stack_dir
from everlode.cli.tables import Grid, screen
from everlode.errors import NotFound
from everlode.health.score import Health, passes
from everlode.health.weights import GATE
from everlode.settings.endpoints import Endpoints
from everlode.views.health import Scores, look

DEGRADED = 20

app = typer.Typer(add_completion=False)


@app.command("health")
def health(
    region: Annotated[str | None, typer.Argument(help="Region; all without it.")] = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Show the score of the network, its regions, components and nodes, from 0 to 1.

    Each with what lowers it most; --json has all evidence and its weights, see docs/health.md. Exit
    code 20 when the whole is not better than 0.8, or something does not answer.
    Example: everlode health eu --json
    """
    endpoints = Endpoints.load(stack_dir(folder))
    if region is not None and region not in endpoints.regions:
        known = ", ".join(endpoints.regions)
        raise NotFound(f"no region is named {region!r}", hint=f"there are: {known}")
    found = look(endpoints, [region] if region else list(endpoints.regions))
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
    else:
        _show(found)
    if found.unreachable or not passes(found.network):
        raise typer.Exit(DEGRADED)


def _show(found: Scores) -> None:
    console = screen()
    table = Grid("level", "name", "score", "what lowers it most", box=None)
    for each in (found.network, *found.regions, *found.components, *found.nodes):
        _row(table, each)
    console.print(table)
    for name, why in found.unreachable.items():
        console.print(f"{name} does not answer: {why}", style="red")


def _row(table: Grid, found: Health) -> None:
    score = "unknown" if found.score is None else f"{found.score:.3f}"
    style = None if found.score == 1.0 else "red" if (found.score or 0.0) <= GATE else "yellow"
    table.add_row(found.level, found.name, score, found.reason, style=style)
