"""`everlode dlt`: what consumers could not take, facts that do not count, and what next."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

import typer

from everlode.adapters.clock import WallClock
from everlode.adapters.kafka import Reader
from everlode.adapters.postgres_read import Generation
from everlode.cli.dlt_fenced import verbs
from everlode.cli.dlt_options import DryRun, Home, Operator, line, place, wishes
from everlode.cli.options import Dir, Json, noun
from everlode.errors import Precondition
from everlode.log import fates, letters
from everlode.log.fates import Kept, Wish
from everlode.log.letters import Decider
from everlode.settings.endpoints import Endpoints
from everlode.views.keys import problems, wanted

app = noun("Dead letters: what a consumer could not take, kept with where it came from.")
app.add_typer(verbs)


class Asked(NamedTuple):
    """What is asked of letters."""

    endpoints: Endpoints
    region: str
    wishes: list[Wish]
    dry_run: bool
    as_json: bool


Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="As `dlt list` shows them.")]


def _reader(endpoints: Endpoints, region: str) -> Reader:
    return Reader(endpoints.region(region).kafka_bootstrap, "dlt", wait_ms=20)


@app.command("list")
def list_(
    status: Annotated[str, typer.Option(help=f"{', '.join(fates.STATUSES)}, or all.")] = fates.OPEN,
    consumer: Annotated[str, typer.Option(help="Who could not take it, e.g. primary.")] = "",
    topic: Annotated[str, typer.Option(help="Topic of the record.")] = "",
    code: Annotated[str, typer.Option(help="Why, e.g. broken.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="The newest of them.")] = 100,
    region: Home = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """List dead letters, oldest first, and how many there are of each consumer, topic and code.

    Example: everlode dlt list --consumer primary --json
    """
    endpoints, home = place(folder, region)
    if status not in (*fates.STATUSES, "all"):
        raise typer.BadParameter(f"{status!r} is none of {', '.join(fates.STATUSES)}, all")
    asked = fates.Filter(status, consumer, topic, code)
    with closing(_reader(endpoints, home)) as reader:
        found = [k for k in letters.letters(reader, endpoints, home) if asked.has(k)]
    shown = fates.listed(found, limit)
    if as_json:
        typer.echo(json.dumps({"region": home, **shown}, indent=2))
        return
    for row in shown["letters"]:
        at = _time(row["kept_at_ms"])
        line(row["id"], row["status"], at, row["code"], row["message"])
    for row in shown["counts"]:
        line(f"{row['count']:>7}", *(row[n] for n in ("status", "consumer", "topic", "code")))
    typer.echo(f"{shown['total']:>7}  in all")


def _time(at_ms: int | None) -> str:
    if at_ms is None:
        return ""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(" ", "seconds")


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `dlt list` shows it.")],
    region: Home = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Show a dead letter: its record, where that came from, why it is here, what became of it.

    Example: everlode dlt show primary/eu.commands.tasks/0/17 --json
    """
    endpoints, home = place(folder, region)
    with closing(_reader(endpoints, home)) as reader:
        kept = fates.one(letters.letters(reader, endpoints, home), letter_id)
        raw = letters.content(reader, kept.letter)
    shown = letters.opened(kept, raw)
    if as_json:
        typer.echo(json.dumps(shown, indent=2, default=str))
        return
    for name, value in shown.items():
        typer.echo(f"{name:<14} {json.dumps(value, default=str)}")


@app.command()
def replay(
    ids: Ids,
    reason: Annotated[str, typer.Option(help="Why; recorded.")] = "",
    operator: Operator = None,
    dry_run: DryRun = False,
    region: Home = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Put commands back into their topics, where their primary reads them again; each once.

    Only commands: a fact stands in its log, and a signal is over. It is recorded
    (DeadLetterReplayed); the letter stays. Asked again, nothing happens.
    Example: everlode dlt replay primary/eu.commands.tasks/0/17 --reason "schema published"
    """
    asked = Asked(*place(folder, region), wishes(ids, operator, reason), dry_run, as_json)
    _decide(asked, fates.require_replayable, Decider.replay)


@app.command()
def discard(
    ids: Ids,
    reason: Annotated[str, typer.Option(help="Why; recorded.")],
    operator: Operator = None,
    yes: Annotated[bool, typer.Option("--yes", help="Without it nothing is done.")] = False,
    dry_run: DryRun = False,
    region: Home = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Record that letters will not be replayed (DeadLetterDiscarded). The letters stay.

    Example: everlode dlt discard detector/eu.1.heartbeats/1/5 --reason "fuzzer" --yes
    """
    where = place(folder, region)
    if not (yes or dry_run):
        raise Precondition("discard: a discarded letter is never replayed", hint="--yes to do it")
    asked = Asked(*where, wishes(ids, operator, reason), dry_run, as_json)
    _decide(asked, fates.require_discardable, Decider.discard)


def _decide(
    asked: Asked, rule: fates.Rule, act: Callable[[Decider, list[Wish]], list[Kept]]
) -> None:
    """All of them, or none; a dry run asks the rule alone."""
    endpoints, home, wishes, dry_run, as_json = asked
    if dry_run:
        with closing(_reader(endpoints, home)) as reader:
            found = letters.letters(reader, endpoints, home)
        done = fates.judged(found, wishes, rule, home)
    else:
        with closing(Decider(endpoints, home, WallClock())) as decider:
            done = act(decider, wishes)
    if as_json:
        rows = [kept.shown() for kept in done]
        typer.echo(json.dumps({"region": home, "dry_run": dry_run, "letters": rows}, indent=2))
        return
    for kept in done:
        line(kept.letter.id, "may be" if dry_run else kept.status)


@app.command()
def keys(
    everything: Annotated[
        bool, typer.Option("--all", help="Also what holds no key, or does not any more.")
    ] = False,
    region: Home = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Show the keys at which a region's projection has stopped, and conflicts.

    Gaps, facts that cannot be applied, epochs that are not decided; nothing here is repaired.
    Example: everlode dlt keys --region eu --json
    """
    endpoints, home = place(folder, region)
    with closing(Generation.current(endpoints.region(home).postgres_conninfo())) as tables:
        found = wanted(problems(tables.query), everything=everything)
        where = {"region": home, "generation": tables.generation}
    rows = [noted._asdict() for noted in found]
    if as_json:
        typer.echo(json.dumps({**where, "keys": rows}, default=str, indent=2))
        return
    for noted in found:
        at = f"version {noted.version or 0}" + (f", {noted.waiting} wait" if noted.waiting else "")
        spot = f"{noted.topic}/{noted.partition}@{noted.offset}"
        line(noted.kind, "stopped" if noted.stopped else "goes on", noted.key or "-", at, spot)
    typer.echo(f"{len(rows)} in generation {where['generation']} of {home}")
