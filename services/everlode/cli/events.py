"""`everlode events tail|schema`: what happens, as it happens, and what it is written in.

There is no verb that writes an event: a fact is written by the primary of its scope alone. What
others may ask for are commands: the SDK sends them, and `POST /commands/{Type}`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated, Any

import typer

from everlode.api.network import MACHINERY, STREAMS
from everlode.api.ring import Wanted
from everlode.api.tail import Event, Tail
from everlode.cli import schema
from everlode.cli.options import Dir, Json, noun, stack_dir
from everlode.cli.tables import screen
from everlode.errors import NotFound
from everlode.events.catalogue import EVENTS
from everlode.settings.endpoints import Endpoints

LAST = 20

app = noun("Events as they happen, and their schemas. Only primaries write facts: see the SDK.")


@app.command()
def tail(
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Type, e.g. NodeLost; may be repeated.")
    ] = None,
    of: Annotated[
        str, typer.Option(help=f"Stream: {', '.join(STREAMS)}. {MACHINERY}: recoveries, health.")
    ] = MACHINERY,
    scope: Annotated[str, typer.Option(help="Scope, e.g. task-manager/eu.")] = "",
    region: Annotated[str, typer.Option(help="Region where it happened.")] = "",
    operation: Annotated[str, typer.Option(help="Id of an operation.")] = "",
    position: Annotated[
        str | None, typer.Option(help="Where to go on: beginning, end, or what was printed last.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C.")] = False,
    seen_from: Annotated[
        str | None, typer.Option("--from", help="Region whose cluster is read; the first without.")
    ] = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Show events: the last 20, or all from a position on, and with --follow those that come.

    The position after them comes at the end, on standard error; with --json it is in each line, and
    at the end in one of its own. It is one of `GET /events` too. Without a position the last 10,000
    records of a stream of facts are looked at.
    Example: everlode events tail --type NodeLost --follow
    """
    _require(types or (), of)
    endpoints = Endpoints.load(stack_dir(folder))
    home = seen_from or endpoints.topology.regions[0]
    wanted = Wanted(frozenset(types or ()), scope, region, operation)
    with closing(Tail(endpoints, home, of, position)) as found:
        try:
            _show(found, wanted, as_json, follow, None if position else LAST)
        finally:
            if as_json:
                typer.echo(json.dumps({"position": found.position}))
            else:
                screen(stderr=True).print(f"position {found.position}", style="dim", markup=False)


def _require(types: Sequence[str], of: str) -> None:
    for name in types:
        if name not in EVENTS:
            raise NotFound(f"no event is named {name!r}", hint="everlode schema list shows all")
    if of not in STREAMS:
        raise NotFound(f"no stream is named {of!r}", hint=f"there are: {', '.join(STREAMS)}")


def _show(found: Tail, wanted: Wanted, as_json: bool, follow: bool, last: int | None) -> None:
    """All events from the position on; without one the last ones of what is there, then others."""
    kept: list[Event] = []
    for event in found.kept(wanted):
        kept.append(event)
        if last is None:
            _print(kept.pop(), as_json)
        elif len(kept) > last:
            kept.pop(0)
    for event in kept:
        _print(event, as_json)
    if follow:
        for event in found.following(wanted):
            _print(event, as_json)


def _print(event: Event, as_json: bool) -> None:
    made: dict[str, Any] = json.loads(event.item.text)
    if as_json:
        typer.echo(json.dumps({"position": event.position, "event": made}))
        return
    about = event.item.operation or event.item.scope
    fields = " ".join(f"{n}={_text(v)}" for n, v in made["data"].items())
    head = f"{made['time']}  {event.item.region}  {event.item.type}"
    typer.echo("  ".join(filter(None, (head, about and _text(about), fields))))


def _text(value: Any) -> str:
    """A value in a line: a text as it is, unless it would break the line or the terminal."""
    if isinstance(value, str) and value and value.isprintable() and " " not in value:
        return value
    return json.dumps(value)


@app.command("schema")
def schema_(
    name: Annotated[str, typer.Argument(help="Type, e.g. NodeLost.")], as_json: Json = False
) -> None:
    """Show the Avro schema of an event, as `everlode schema show` does of anything.

    Example: everlode events schema NodeLost --json
    """
    _require([name], MACHINERY)
    schema.show(name, as_json)
