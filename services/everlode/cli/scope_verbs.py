"""`everlode scope switchover|failover|failback|pause|resume|ack|drain|rejoin`: operators' wishes.

Each asks on the control log, prints the operation and ends; with --wait it ends with it.
"""

from __future__ import annotations

import getpass
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from everlode.cli.options import Dir, Json, stack_dir
from everlode.cli.tables import Grid, screen
from everlode.errors import ConfigError
from everlode.operators.desk import LATE_S, Wanted, desk, require_done, shown
from everlode.processes.policies import policies
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import settings

verbs = typer.Typer()

Scope = Annotated[str, typer.Argument(help="component/region, e.g. task-manager/eu.")]
Node = Annotated[str, typer.Argument(help="Id of the node, e.g. eu-tm-1.")]
To = Annotated[
    str | None, typer.Option("--to", metavar="NODE", help="Node to lead; the best without it.")
]
Reason = Annotated[str, typer.Option(help="Why, for those who read it later.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the steps; ask for nothing.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for its end; 124 if it has none in time.")]
Timeout = Annotated[
    float,
    typer.Option(min=1, max=86_400, help="Seconds: what was not decided by then is not done."),
]
Operation = Annotated[
    str, typer.Option("--id", help="Id of the operation; asked again under it, it is done once.")
]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class How(NamedTuple):
    """The options that say how a verb is carried out."""

    folder: Path | None
    as_json: bool
    dry_run: bool = False
    wait: bool = False


def _operator() -> str:
    """EVERLODE_OPERATOR, else the name of the system's user."""
    given = settings().operator
    if given:
        return given
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in many containers
        return f"uid-{os.getuid()}"


def _do(wanted: Wanted, how: How) -> None:
    endpoints = Endpoints.load(stack_dir(how.folder))
    operator = _operator()
    with desk(endpoints) as found:
        if how.dry_run:
            cfg = settings()
            partitions = cfg.topology_of(endpoints).partitions
            steps = found.foreseen(wanted, operator, policies(cfg, partitions))
            _print_steps(steps, how.as_json)
            return
        wish = found.ask(wanted, operator)
        if how.wait and not wish.outcome:
            wish = found.wait(wish.id, wanted.timeout_s + LATE_S)
        if how.wait:
            require_done(wish)
        _print(shown(wish), how.as_json)


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Grid(show_header=False, box=None)
    for name, value in found.items():
        if value is not None:
            table.add_row(name.replace("_", " "), _text(name, value))
    screen().print(table)


def _text(name: str, value: Any) -> str:
    if name.endswith("_ms"):
        return datetime.fromtimestamp(value / 1000, UTC).isoformat(sep=" ", timespec="seconds")
    if isinstance(value, list):
        return ", ".join(f"{p['topic']}/{p['partition']}: {p['seq']}" for p in value)
    return str(value)


def _print_steps(steps: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"steps": steps}, indent=2))
        return
    for number, step in enumerate(steps, start=1):
        said = ", ".join(f"{k} {v}" for k, v in step.items() if k != "step" and v is not None)
        typer.echo(f"{number}. {step['step']}: {said}")


def _until_ms(lasts: str | None, until: str | None) -> int:
    """When a pause ends. Raises: ConfigError: neither a time to come nor a duration."""
    now = datetime.now(UTC)
    if lasts is not None and until is not None:
        raise ConfigError("--for and --until", hint="one of the two")
    if until is not None:
        try:
            end = datetime.fromisoformat(until).astimezone(UTC)
        except ValueError:
            raise ConfigError(f"--until {until}", hint="e.g. 2026-12-01T04:30+00:00") from None
    else:
        found = re.fullmatch(r"(\d{1,9})([smhd])", lasts or "1h")
        if found is None:
            raise ConfigError(f"--for {lasts}", hint="a number and s, m, h or d, e.g. 45m")
        end = now + timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    if end <= now:
        raise ConfigError(f"the pause would end at {end.isoformat()}", hint="that has passed")
    return round(end.timestamp() * 1000)


@verbs.command()
def switchover(
    scope: Scope,
    to: To = None,
    reason: Reason = "",
    timeout: Timeout = 30,
    wait: Wait = False,
    dry_run: DryRun = False,
    operation: Operation = "",
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Give a scope to another node as planned: the primary commits what it has, then that leads.

    Clients see a wait and no error. If it does not come to it in time, all is as before.
    Example: everlode scope switchover task-manager/eu --to eu-tm-2 --wait
    """
    wanted = Wanted("switchover", scope, to or "", reason, None, timeout, operation)
    _do(wanted, How(folder, as_json, dry_run, wait))


@verbs.command()
def failover(
    scope: Scope,
    to: To = None,
    reason: Reason = "",
    timeout: Timeout = 30,
    wait: Wait = False,
    dry_run: DryRun = False,
    operation: Operation = "",
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Give a scope to another node at once, as if its primary were lost, also when it is well.

    The primary is fenced; what it managed goes to others, and it comes back as a secondary.
    Example: everlode scope failover task-manager/eu --wait
    """
    wanted = Wanted("failover", scope, to or "", reason, None, timeout, operation)
    _do(wanted, How(folder, as_json, dry_run, wait))


@verbs.command()
def failback(
    scope: Scope,
    to: To = None,
    reason: Reason = "",
    timeout: Timeout = 60,
    wait: Wait = False,
    dry_run: DryRun = False,
    operation: Operation = "",
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Let a scope that another region has taken go home, as planned; the home is a member again.

    The home has a copy of all that the other one has committed before it leads. Clients see a wait
    and no error. If it does not come to it in time, all is as before. Only task managers so far.
    Example: everlode scope failback task-manager/us --wait
    """
    wanted = Wanted("failback", scope, to or "", reason, None, timeout, operation)
    _do(wanted, How(folder, as_json, dry_run, wait))


@verbs.command()
def pause(
    scope: Scope,
    lasts: Annotated[
        str | None, typer.Option("--for", help="How long, e.g. 45m; an hour without it.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="When it ends, ISO 8601.")] = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    operation: Operation = "",
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Do nothing about lost nodes of a scope for a while; it ends by itself.

    What an operator asks for is done all the same. `everlode status` shows it.
    Example: everlode scope pause task-manager/eu --for 45m --reason "new switch"
    """
    how = How(folder, as_json, dry_run)
    stack_dir(folder)
    _do(Wanted("pause", scope, "", reason, _until_ms(lasts, until), operation=operation), how)


@verbs.command()
def resume(
    scope: Scope,
    reason: Reason = "",
    dry_run: DryRun = False,
    operation: Operation = "",
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """End the pause of a scope: losses that it held up are handled now.

    Example: everlode scope resume task-manager/eu
    """
    how = How(folder, as_json, dry_run)
    _do(Wanted("resume", scope, reason=reason, operation=operation), how)


@verbs.command()
def ack(
    what: Annotated[
        str, typer.Argument(metavar="NODE|SCOPE", help="Id of the node, or component/region.")
    ],
    reason: Reason = "",
    dry_run: DryRun = False,
    operation: Operation = "",
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Acknowledge a lost or degraded node, or end the cool-down of a scope.

    A lost node: status counts it no more, until the next loss. A degraded one: it is healthy again
    as soon as it beats well. A scope: an unsteady primary may be replaced again at once.
    Example: everlode scope ack eu-tm-3 --reason "its disk is being replaced"
    """
    how = How(folder, as_json, dry_run)
    scope, node = (what, "") if "/" in what else ("", what)
    _do(Wanted("ack", scope, node, reason, operation=operation), how)


@verbs.command()
def drain(
    node: Node,
    reason: Reason = "",
    timeout: Timeout = 60,
    wait: Wait = False,
    dry_run: DryRun = False,
    operation: Operation = "",
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Let a node give up what it leads and manages, and take nothing new; then it may be stopped.

    It stays so, also when its process starts anew, until `rejoin`.
    Example: everlode scope drain eu-tm-1 --wait
    """
    wanted = Wanted("drain", "", node, reason, None, timeout, operation)
    _do(wanted, How(folder, as_json, dry_run, wait))


@verbs.command()
def rejoin(
    node: Node,
    reason: Reason = "",
    timeout: Timeout = 60,
    wait: Wait = False,
    dry_run: DryRun = False,
    operation: Operation = "",
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Take a node back that was drained, or was lost and beats again.

    Example: everlode scope rejoin eu-tm-1 --wait
    """
    wanted = Wanted("rejoin", "", node, reason, None, timeout, operation)
    _do(wanted, How(folder, as_json, dry_run, wait))
