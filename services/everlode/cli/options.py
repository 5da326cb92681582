"""The options that the command's verbs share, each defined once, and what they fall back to.

Invariants: an option means the same in every verb: given, else by its `EVERLODE_*` setting, else
its default; paths are absolute, `~` is the user's home. Shell.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from everlode.settings.environment import settings
from everlode.telemetry.sink import Sink, to_stream

Dir = Annotated[
    Path | None,
    typer.Option(
        "--dir", metavar="D",
        help="Folder of the stack; EVERLODE_STACK_DIR, else ~/.local/state/everlode/stack.",
    ),
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output, errors too.")]
SeenFrom = Annotated[
    str | None,
    typer.Option("--from", help="Region whose projection is asked; the first that has it without."),
]
Region = Annotated[str, typer.Option("--region", help="Region, e.g. eu.")]
NodeId = Annotated[
    str, typer.Option("--node-id", help="Its id, unique in the network, e.g. eu-tm-1.")
]
Keys = Annotated[
    Path | None,
    typer.Option(
        "--keys", metavar="K",
        help="Folder of keys; EVERLODE_KEYS_DIR, else keys in the stack's folder.",
    ),
]  # fmt: skip
Bucket = Annotated[
    str | None,
    typer.Option("--bucket", help="Bucket; EVERLODE_BUCKET, else the stack's first."),
]


def noun(text: str) -> typer.Typer:
    """The typer app of a noun that has verbs; `text` is its help."""
    app = typer.Typer(add_completion=False, no_args_is_help=True, help=text)

    @app.callback()
    def _verbs_follow() -> None:
        pass

    return app


def default_dir() -> Path:
    """`$XDG_STATE_HOME/everlode/stack`, else `~/.local/state/everlode/stack`."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "everlode" / "stack"


def absolute(path: Path) -> Path:
    """The path with the user's home for `~`, from the root."""
    return path.expanduser().absolute()


def stack_dir(given: Path | None) -> Path:
    """Folder of the stack that a verb works on; whether there is one is seen later."""
    return absolute(given or settings().stack_dir or default_dir())


def keys_dir(given: Path | None, stack: Path) -> Path:
    """Folder of the keys that a verb works with."""
    return absolute(given or settings().keys_dir or stack / "keys")


def progress() -> Sink:
    """Where a verb reports what it does: stderr, as text unless EVERLODE_LOG=json."""
    return to_stream("", "json" if settings().log == "json" else "text")
