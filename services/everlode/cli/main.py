"""The command `everlode`: nouns are loaded when they are asked for.

Every verb's settings are checked before it begins. Exit codes: the error's class says (see
`everlode.errors`); 130 when interrupted. With `--json`, an error is
`{"error": {"code", "message", "hint"}}` on standard output.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from collections.abc import Sequence

import typer
from typer._click.core import Command, Context
from typer._click.exceptions import ClickException
from typer.core import TyperGroup

from everlode.cli.entry import lacking
from everlode.errors import EverlodeError
from everlode.settings.environment import settings
from everlode.settings.login import use_login

NOUNS = {
    "demo": "everlode.cli.demo",
    "serve": "everlode.cli.serve",
    "stack": "everlode.cli.stack",
    "topology": "everlode.cli.topology",
    "status": "everlode.cli.status",
    "health": "everlode.cli.health",
    "scope": "everlode.cli.scope",
    "task": "everlode.cli.task",
    "miner": "everlode.cli.miner",
    "events": "everlode.cli.events",
    "dlt": "everlode.cli.dlt",
    "backup": "everlode.cli.backup",
    "recover": "everlode.cli.recover",
    "node": "everlode.cli.node",
    "projector": "everlode.cli.projector",
    "detector": "everlode.cli.detector",
    "coordinator": "everlode.cli.coordinator",
    "schema": "everlode.cli.schema",
    "settings": "everlode.cli.settings",
}
"""Noun → module with its typer app, `app`."""

INTERRUPTED = 130


class LazyGroup(TyperGroup):
    """Imports a noun's module when it is used, so that `everlode node` starts quickly."""

    def list_commands(self, ctx: Context) -> list[str]:
        """All nouns."""
        return list(NOUNS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """The noun's command, or None."""
        if cmd_name not in NOUNS:
            return None
        command = typer.main.get_command(importlib.import_module(NOUNS[cmd_name]).app)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="High availability and disaster recovery for AI-mining networks. "
    "Example: everlode demo --share 0.1",
)


@app.callback()
def _root() -> None:
    """Options of their own have the nouns."""


def _fail(error: EverlodeError | ModuleNotFoundError, as_json: bool) -> int:
    if isinstance(error, ModuleNotFoundError):
        error = lacking(error)
    if as_json:
        sys.stdout.write(json.dumps({"error": error.as_dict()}) + "\n")
    else:
        sys.stderr.write(f"error: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"  hint: {error.hint}\n")
    return error.exit_code


def _interrupted(as_json: bool) -> int:
    if as_json:
        body = {"code": "interrupted", "message": "interrupted", "hint": "run it again"}
        sys.stdout.write(json.dumps({"error": body}) + "\n")
    else:
        sys.stderr.write("interrupted\n")
    return INTERRUPTED


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    as_json = "--json" in arguments
    try:
        if "--help" not in arguments:
            # one that is wrong or unknown stops every verb, also one that reads none
            use_login(settings().kafka_login)
        result = typer.main.get_command(app).main(
            args=list(arguments), prog_name="everlode", standalone_mode=False
        )
    except (EverlodeError, ModuleNotFoundError) as error:
        return _fail(error, as_json)
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _interrupted(as_json)
    except ClickException as error:
        if as_json:
            body = {"code": "usage", "message": error.format_message(), "hint": "--help"}
            sys.stdout.write(json.dumps({"error": body}) + "\n")
        else:
            error.show()
        return 2
    except Exception as error:
        if not as_json:
            raise
        traceback.print_exc()
        body = {
            "code": "internal",
            "message": f"{type(error).__name__}: {error}",
            "hint": "an error of everlode itself: report it with what is on standard error",
        }
        sys.stdout.write(json.dumps({"error": body}) + "\n")
        return 1
    if result == INTERRUPTED:  # how typer gives a KeyboardInterrupt back
        return _interrupted(as_json)
    return result if isinstance(result, int) else 0


def main() -> None:
    """Entry point."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
