"""`everlode schema`: the contract for any language: Avro, fingerprints, AsyncAPI, verbs' JSON."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from everlode.avro import schemas
from everlode.cli.options import Json, noun
from everlode.cli.tables import Grid, screen
from everlode.errors import NotFound
from everlode.topics import asyncapi

app = noun("Avro schemas and their fingerprints, and the JSON of verbs, for any language.")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Show every schema with its topic and the fingerprint that its records carry.

    The eight bytes are hex, as they follow C3 01. Example: everlode schema list --json
    """
    rows = [
        {name: entry[name] for name in ("type", "topic", "fingerprint")}
        for entry in schemas.published()
        if entry["current"]
    ]
    if as_json:
        typer.echo(json.dumps({"schemas": rows}, indent=2))
        return
    table = Grid("type", "topic", "fingerprint", box=None)
    for row in rows:
        table.add_row(*row.values())
    screen().print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Type, e.g. SubmitTask.")], as_json: Json = False
) -> None:
    """Show a whole schema, records that it uses put in, as other libraries want it.

    And its fingerprint, and those that libraries compute of it, which are read too.
    Example: everlode schema show SubmitTask --json
    """
    found = _found(name)
    if as_json:
        typer.echo(json.dumps({**found, "schema": schemas.raw(name)}, indent=2))
        return
    typer.echo(f"type         {found['type']}\ntopic        {found['topic']}")
    typer.echo(f"fingerprint  {found['fingerprint']}")
    for library, mark in found["computed"].items():
        typer.echo(f"{library:<12} {mark}")
    typer.echo(json.dumps(schemas.raw(name), indent=2))


@app.command("asyncapi")
def asyncapi_(as_json: Json = False) -> None:
    """Print the contract as an AsyncAPI 3 document, in JSON: topics, records, operations.

    Example: everlode schema asyncapi > asyncapi.json
    """
    typer.echo(asyncapi.text(), nl=False)


@app.command()
def output(
    verb: Annotated[list[str], typer.Argument(help="E.g. scope explain; error: what any may say.")],
    as_json: Json = False,
) -> None:
    """Print the JSON Schema of what a verb prints with --json; of a line, where it prints lines.

    Example: everlode schema output scope explain
    """
    from everlode.cli.outputs import schema_of  # here: it needs what all verbs need together

    typer.echo(json.dumps(schema_of(" ".join(verb)), indent=2))


def _found(name: str) -> dict[str, Any]:
    for entry in schemas.published():
        if entry["type"] == name and entry["current"]:
            return {key: value for key, value in entry.items() if key != "current"}
    raise NotFound(f"no schema is named {name!r}", hint="everlode schema list shows all")
