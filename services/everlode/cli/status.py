"""`everlode status clusters`: the figures of every cluster, from the projections."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from everlode.control.fold import ControlState
from everlode.errors import NotFound, Unavailable
from everlode.settings.endpoints import Endpoints
from everlode.views import clusters as queries

DEGRADED = 20
UNKNOWN = "unknown"
CONTROL_WAIT_S = 10.0

app = typer.Typer(add_completion=False, no_args_is_help=True, help="What there is, and how it is.")


@app.callback()
def _root() -> None:
    """Verbs follow."""


@app.command()
def clusters(
    kind: Annotated[
        str | None, typer.Argument(help=f"{', '.join(queries.KINDS)}; all without it.")
    ] = None,
    region: Annotated[str | None, typer.Argument(help="Region; all without it.")] = None,
    seen_from: Annotated[
        str | None,
        typer.Option("--from", help="Region whose projection is asked; its own without it."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", envvar="EVERLODE_STACK_DIR", help="Folder of the stack."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Show every figure of the service clusters, computed from the events as they stand.

    Null means that there is nothing to compute from. Exit code 20 when a region does not answer.
    Example: everlode status clusters task-manager eu --json
    """
    from everlode.cli.stack import default_dir

    endpoints = Endpoints.load((folder or default_dir()).expanduser().absolute())
    kinds = _chosen(kind, queries.KINDS, "kind of cluster")
    regions = _chosen(region, tuple(endpoints.regions), "region")
    if seen_from is not None:
        _chosen(seen_from, tuple(endpoints.regions), "region")
    control, silent = _control(endpoints)
    found: list[dict[str, Any]] = []
    for name in regions:
        try:
            found += _of_region(endpoints, name, seen_from or name, kinds, control)
        except Unavailable as error:
            silent[name] = error.message
    order = {name: n for n, name in enumerate(kinds)}
    found.sort(key=lambda figures: order[figures["kind"]])
    if as_json:
        body = {"clusters": found, "unreachable": silent}
        typer.echo(json.dumps(body, default=_plain, indent=2))
    else:
        _show(found, silent)
    if silent:
        raise typer.Exit(DEGRADED)


def _chosen(name: str | None, known: tuple[str, ...], what: str) -> tuple[str, ...]:
    if name is None:
        return known
    if name not in known:
        raise NotFound(f"no {what} is named {name!r}", hint=f"there are: {', '.join(known)}")
    return (name,)


def _control(endpoints: Endpoints) -> tuple[ControlState | None, dict[str, str]]:
    """The control log's word on who leads; without it the nodes' own beats are shown."""
    from everlode.adapters.kafka_follower import ControlFollower

    if endpoints.control_bootstrap is None:
        return None, {}
    follower = ControlFollower(endpoints.control_bootstrap)
    try:
        return follower.start(CONTROL_WAIT_S).state, {}
    except Unavailable as error:
        return None, {"control": error.message}
    finally:
        follower.close()


@contextmanager
def _projection(endpoints: Endpoints, region: str) -> Iterator[tuple[queries.Query, int]]:
    from everlode.adapters.postgres_read import Generation

    with closing(Generation.current(endpoints.regions[region].postgres_conninfo())) as tables:
        yield tables.query, tables.generation


def _of_region(
    endpoints: Endpoints,
    region: str,
    seen_from: str,
    kinds: tuple[str, ...],
    control: ControlState | None,
) -> list[dict[str, Any]]:
    with _projection(endpoints, seen_from) as (query, generation):
        origin = endpoints.regions[region].origin
        now_ms = time.time_ns() // 1_000_000
        asked = queries.Asked(query, region, origin, now_ms, control)
        where = {"seen_from": seen_from, "generation": generation}
        return [queries.cluster(kind, asked) | where for kind in kinds]


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    raise TypeError(f"{type(value).__name__} is not for JSON")


def _show(found: list[dict[str, Any]], silent: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    for figures in found:
        table = Table(
            title=f"{figures['kind']} {figures['region_id']}", show_header=False,
            title_justify="left",
        )  # fmt: skip
        for name, value in figures.items():
            if name not in ("kind", "region_id"):
                table.add_row(name, _text(value))
        console.print(table)
    for name, why in silent.items():
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
