"""`everlode dlt fenced|reissue`: facts that have no effect, and their commands given again."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Annotated

import typer

from everlode.adapters.clock import WallClock
from everlode.adapters.kafka_follower import ControlFollower
from everlode.cli.dlt_options import DryRun, Home, Operator, line, place, wishes
from everlode.cli.options import Dir, Json
from everlode.log.fenced import Reissuer, fenced

verbs = typer.Typer()


@verbs.command("fenced")
def fenced_(region: Home = None, folder: Dir = None, as_json: Json = False) -> None:
    """List facts that have no effect: above what counts of a lost region, or of an epoch over.

    They are kept in their log, with the command that each came of; no projection folds them.
    Example: everlode dlt fenced --region eu --json
    """
    endpoints, home = place(folder, region)
    found = fenced(endpoints, home)
    if as_json:
        rows = [fact._asdict() for fact in found]
        typer.echo(json.dumps({"region": home, "facts": rows}, indent=2))
        return
    for fact in found:
        at = f"{fact.topic}/{fact.partition} seq {fact.seq}"
        why = f"command {fact.command_id}" if fact.command_topic else "of no command"
        line(fact.event_id, fact.kind, fact.event_type, fact.aggregate_id, at, why)
    typer.echo(f"{len(found):>7}  in all")


@verbs.command()
def reissue(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As `dlt fenced` shows them.")],
    reason: Annotated[str, typer.Option(help="Why; recorded.")] = "",
    operator: Operator = None,
    dry_run: DryRun = False,
    region: Home = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Give the commands of fenced facts again, to whoever serves their scopes now.

    As they were, under their ids, so each is carried out once, however often it is given. The
    region that took them must answer: it has them. Recorded as DeadLetterReplayed.
    Example: everlode dlt reissue 0f6c... --reason "lost with us"
    """
    endpoints, home = place(folder, region)
    follower = ControlFollower(endpoints.control(), wait_ms=20).start()
    with closing(follower):
        reissuer = Reissuer(endpoints, follower.state, WallClock())
        asked = wishes(ids, operator, reason)
        done = reissuer.reissue(fenced(endpoints, home), asked, dry_run=dry_run)
    if as_json:
        rows = [one._asdict() for one in done]
        typer.echo(json.dumps({"region": home, "dry_run": dry_run, "commands": rows}, indent=2))
        return
    for one in done:
        line(one.event_id, "may be" if dry_run else "given again", one.command_id, one.topic)
