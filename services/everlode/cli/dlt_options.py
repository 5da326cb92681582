"""What the verbs of `everlode dlt` share: options, the place, a line, who asks."""

from __future__ import annotations

import getpass
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from everlode.cli.options import stack_dir
from everlode.cli.tables import printable
from everlode.log.fates import Wish
from everlode.settings.endpoints import Endpoints

Home = Annotated[
    str | None, typer.Option("--region", help="Region that keeps them; the first without it.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Operator = Annotated[
    str | None, typer.Option(help="Name that is recorded; the user's own without it.")
]


def place(folder: Path | None, region: str | None) -> tuple[Endpoints, str]:
    """The stack's endpoints, and the region that is asked. Raises: ConfigError."""
    endpoints = Endpoints.load(stack_dir(folder))
    home = region or endpoints.topology.regions[0]
    endpoints.region(home)
    return endpoints, home


def line(*texts: object) -> None:
    """A line whatever the width, so that ids are whole; nothing in it moves a terminal."""
    typer.echo(printable("  ".join(str(text) for text in texts)))


def wishes(ids: list[str], operator: str | None, reason: str) -> list[Wish]:
    """One of each id, in order, by the operator or this user."""
    name = operator or "unknown"
    with suppress(KeyError, OSError):  # a user without a name
        name = operator or getpass.getuser()
    return [Wish(letter_id, name, reason) for letter_id in dict.fromkeys(ids)]
