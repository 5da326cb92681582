"""`everlode scope`: who leads, since when and why, who would follow; and what operators ask for.

The verbs that change something are in `scope_verbs`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from everlode.cli.options import Dir, Json, noun, stack_dir
from everlode.cli.recounted import Asked, recount
from everlode.cli.scope_verbs import verbs
from everlode.cli.tables import Grid, screen
from everlode.errors import Unavailable
from everlode.processes.policies import policies
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import Settings, settings
from everlode.views.scopes import Seen, explained, look, nothing_seen, planned, recorded
from everlode.views.unreached import taken_over

app = noun("Who leads what, and why; and who is to lead.")
app.add_typer(verbs)

Scope = Annotated[str, typer.Argument(help="component/region, e.g. task-manager/eu.")]


def _look(endpoints: Endpoints, cfg: Settings, scope: str) -> Seen:
    partitions = cfg.topology_of(endpoints).partitions
    return look(endpoints, scope, partitions, policies(cfg, partitions))


def scope_explained(
    endpoints: Endpoints, cfg: Settings, scope: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What `explain` says of a scope, and the decisions about it, oldest first.

    With what was taken from its region, if that was fenced; then also while it is gone. Raises:
    Refusal: it is no scope. NotFound: its region is not there. Unavailable.
    """
    try:
        seen = _look(endpoints, cfg, scope)
    except Unavailable:
        control, decisions, _ = recorded(endpoints, scope)
        if taken_over(endpoints, control, scope) is None:
            raise
        seen = nothing_seen(scope, control)._replace(decisions=decisions)
    takeover = taken_over(endpoints, seen.control, scope)
    return explained(seen) | {"takeover": takeover}, seen.decisions


@app.command()
def explain(
    scope: Scope,
    replay: Annotated[
        bool,
        typer.Option("--replay", help="Compute its region's verdicts again from the log; 13: no."),
    ] = False,
    policy: Annotated[
        Path | None,
        typer.Option("--with", metavar="FILE", help="YAML: what other settings had found."),
    ] = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Show who leads a scope, and for every other node why it may or may not be promoted.

    With --replay or --with: what its region's detector found, as far as the log goes back. Settings
    that can be changed are in docs/detection.md.
    Example: everlode scope explain task-manager/eu --replay
    """
    if replay or policy is not None:
        recount(Asked(scope, replay, policy), stack_dir(folder), as_json)
        return
    found, _ = scope_explained(Endpoints.load(stack_dir(folder)), settings(), scope)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    title = f"{scope}: epoch {found['epoch']}, primary {found['primary'] or 'none'}"
    columns = (
        "node_id", "status", "priority", "health", "behind_ms", "queue_size", "load_ppm",
        "excluded",
    )  # fmt: skip
    screen().print(Grid.of(columns, found["candidates"], title))
    typer.echo(_foreseen(found["recovery"]))
    if found["takeover"] is not None:
        _takeover(found["takeover"])


def _takeover(found: dict[str, Any]) -> None:
    """What was taken from a lost region, and what could not be saved."""
    region, lost = found["region"], found["lost"]
    typer.echo(f"{region} was fenced at control offset {found['fenced_at']}", nl=False)
    if found["accepted"] is None:
        typer.echo(f"; what counts of it waits for {', '.join(found['lacks'])}")
        return
    back = f", and {region} is back" if found["returned"] else ""
    typer.echo(f"; it is {found['owner'] or 'nobody'}'s now{back}")
    if not found["lost_known"]:
        typer.echo(f"what was lost is not known: the log of {region} does not answer")
    elif not lost:
        typer.echo("nothing was lost: the log of the fenced region holds nothing beyond it")
    else:
        screen().print(Grid.of(tuple(lost[0]), lost, f"{len(lost)} facts that do not count"))


def _foreseen(recovery: dict[str, Any]) -> str:
    """E.g. `a lost node is handled in 1400 ms (of 7 cases)`."""
    took = "unknown" if recovery["ms"] is None else f"{recovery['ms']} ms"
    delay = recovery["delay_score"]
    said = (
        f"a lost node is handled in: {took} (of {recovery['cases']} cases); "
        f"earlier estimates were off by: {_off(recovery['score'])}"
    )
    return f"{said}; those of the delay of what waited by: {_off(delay)}" if delay else said


def _off(score: dict[str, Any]) -> str:
    """E.g. `90 ms, 6 of them within half (of 7 cases)`."""
    off = "unknown"
    if score["typical_error_ms"] is not None:
        off = f"{score['typical_error_ms']} ms, {score['within_half']} of them within half"
    return f"{off} (of {score['cases']} cases)"


@app.command()
def history(scope: Scope, folder: Dir = None, as_json: Json = False) -> None:
    """Show every decision about a scope in the control log, also those that do not count; of a
    coordinator's scope also who suspected its region, since when it was lost, and when no more.

    Example: everlode scope history task-manager/eu --json
    """
    _, found, suspicions = recorded(Endpoints.load(stack_dir(folder)), scope)
    if as_json:
        said = {"scope": scope, "decisions": found, "suspicions": suspicions}
        typer.echo(json.dumps(said, indent=2))
        return
    columns = ("offset", "at", "epoch", "primary", "reason", "failed_node", "decided_by", "void")
    screen().print(Grid.of(columns, found, scope))
    if suspicions:
        about = ("offset", "at", "observer", "over", "silence_ms", "counts", "lost")
        screen().print(Grid.of(about, suspicions, "suspicions"))


@app.command()
def plan(
    scope: Scope,
    node: Annotated[
        str | None, typer.Option(help="Node that would be lost; the primary without it.")
    ] = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Show what the coordinator would do if a node were lost now. Changes nothing.

    Example: everlode scope plan task-manager/eu --node eu-tm-2
    """
    steps = planned(_look(Endpoints.load(stack_dir(folder)), settings(), scope), node)
    if as_json:
        typer.echo(json.dumps({"scope": scope, "steps": steps}, indent=2))
        return
    for number, step in enumerate(steps, start=1):
        moves = step.pop("moves", None)
        name = step.pop("step")
        said = ", ".join(f"{k} {v}" for k, v in step.items() if v is not None)
        more = f", {len(moves)} tasks" if moves is not None else ""
        typer.echo(f"{number}. {name}: {said}{more}")
