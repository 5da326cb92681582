"""`everlode status`: the one look; `status clusters`: the figures of every cluster."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Annotated, Any

import typer

from everlode.cli.options import Dir, Json, stack_dir
from everlode.cli.recounted import show_detectors
from everlode.cli.tables import Grid, screen
from everlode.errors import NotFound
from everlode.settings.endpoints import Endpoints
from everlode.views.clusters import KINDS
from everlode.views.onelook import OneLook, one_look
from everlode.views.overview import Overview, overview

DEGRADED = 20
UNKNOWN = "unknown"

app = typer.Typer(add_completion=False, invoke_without_command=True)
SHOWN = {
    "regions": ("region", "origin", "generation", "standing", "coordinator", "lag_s"),
    "links": ("source", "reader", "since", "silent_s", "blind"),
    "scopes": (
        "scope", "epoch", "primary", "status", "reason", "now", "paused_until", "cools_until",
    ),
    "nodes": (
        "node_id", "component", "role", "status", "beats", "queue", "load", "acknowledged_by",
    ),
    "running": ("operation", "what", "about", "by", "step", "since"),
    "paused": ("scope", "by", "reason", "until"),
}  # fmt: skip
"""Table of the one look → its columns."""


@app.callback()
def look(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again.")] = False,
    detector: Annotated[
        bool, typer.Option("--detector", help="How good failure detection was, from the log.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between looks.")] = 2,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Show what there is, and how it is: regions, scopes, nodes, what runs now, what is paused.

    Exit code 20 when anything is degraded: it says what. An acknowledged loss (`scope ack`) is not.
    With --detector: false positives, misses and times to detect; see docs/detection.md.
    Example: everlode status --watch
    """
    if context.invoked_subcommand is not None:
        return
    endpoints = Endpoints.load(stack_dir(folder))
    if detector:
        show_detectors(endpoints, as_json)
        return
    while watch:
        _show_look(one_look(endpoints), as_json, clear=True)
        time.sleep(every)
    found = one_look(endpoints)
    _show_look(found, as_json)
    if found.problems:
        raise typer.Exit(DEGRADED)


def _show_look(found: OneLook, as_json: bool, *, clear: bool = False) -> None:
    """As tables; or as JSON, of a watch a line a look."""
    if as_json:
        typer.echo(json.dumps(found._asdict(), indent=None if clear else 2))
        return
    console = screen()
    if clear:
        console.clear()
    for name, columns in SHOWN.items():
        rows = getattr(found, name)
        if not rows:
            continue
        filled = [c for c in columns if any(row[c] not in (None, "") for row in rows)]
        console.print(Grid.of(filled, rows, name))
    for problem in found.problems:
        console.print(problem, style="red", markup=False)
    console.print(f"{found.at}: " + ("degraded" if found.problems else "all is well"))


@app.command()
def clusters(
    kind: Annotated[str | None, typer.Argument(help=f"{', '.join(KINDS)}; all without it.")] = None,
    region: Annotated[str | None, typer.Argument(help="Region; all without it.")] = None,
    seen_from: Annotated[
        str | None,
        typer.Option("--from", help="Region whose projection is asked; its own without it."),
    ] = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Show every figure of the service clusters, computed from the events as they stand.

    Null means that there is nothing to compute from. Exit code 20 when a region does not answer,
    or a node's clock is wrong (ClockSkew).
    Example: everlode status clusters task-manager eu --json
    """
    endpoints = Endpoints.load(stack_dir(folder))
    kinds = _chosen(kind, KINDS, "kind of cluster")
    regions = _chosen(region, tuple(endpoints.regions), "region")
    if seen_from is not None:
        _chosen(seen_from, tuple(endpoints.regions), "region")
    found = overview(endpoints, kinds, regions, seen_from)
    if as_json:
        typer.echo(json.dumps(found._asdict(), default=_plain, indent=2))
    else:
        _show(found)
    if found.unreachable or found.clocks:
        raise typer.Exit(DEGRADED)


def _chosen(name: str | None, known: tuple[str, ...], what: str) -> tuple[str, ...]:
    if name is None:
        return known
    if name not in known:
        raise NotFound(f"no {what} is named {name!r}", hint=f"there are: {', '.join(known)}")
    return (name,)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    raise TypeError(f"{type(value).__name__} is not for JSON")


def _show(found: Overview) -> None:
    console = screen()
    for figures in found.clusters:
        table = Grid(
            title=f"{figures['kind']} {figures['region_id']}", show_header=False,
        )  # fmt: skip
        for name, value in figures.items():
            if name not in ("kind", "region_id"):
                table.add_row(name, _text(value))
        console.print(table)
    for clock in found.clocks:
        leads = "" if clock["leads"] else ": it leads nothing until it is right"
        side = "ahead of" if clock["ahead_ms"] > 0 else "behind"
        console.print(
            f"{clock['finding']}: the clock of {clock['node_id']} is "
            f"{abs(clock['ahead_ms']) / 1000:.0f} s {side} the network's{leads}",
            style="red",
        )
    for name, why in found.unreachable.items():
        console.print(f"{name} does not answer: {why}", style="red")


def _text(value: Any) -> str:
    match value:
        case None:
            return UNKNOWN
        case float():
            return f"{value:.3f}"
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case list():
            return "\n".join(_text(item) for item in value) or "none"
        case {"node_id": node_id, "status": status}:
            silent = value.get("silent_s")
            return f"{node_id}: {status}" + ("" if silent is None else f", silent for {silent} s")
        case dict():
            return ", ".join(f"{k}: {v}" for k, v in value.items()) or "none"
        case _:
            return str(value)
