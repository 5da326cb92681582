"""`everlode demo`: the main job, start to finish."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from everlode.cli.options import Json, progress
from everlode.cli.tables import Grid, screen
from everlode.demo import report as reports
from everlode.demo.options import Options
from everlode.demo.run import Demo
from everlode.errors import IntegrityError
from everlode.settings.environment import settings
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    trace: Annotated[
        Path | None,
        typer.Option(
            help="Folder with nodes.csv and pods.csv; EVERLODE_TRACE, else a generated workload."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 1,
    speed: Annotated[float, typer.Option(help="Pace of the work; 2 is twice as fast.")] = 1.0,
    share: Annotated[float, typer.Option(help="Share of the workload, above 0 to 1.")] = 1.0,
    kill_at: Annotated[
        str,
        typer.Option(
            help="When the primary of each kind is killed: before-first-assignment, "
            "mid-run, during-backup or during-recovery."
        ),
    ] = "mid-run",
    keep: Annotated[bool, typer.Option(help="Keep the stack's data and logs.")] = False,
    as_json: Json = False,
    report: Annotated[Path, typer.Option(help="Folder for report.json and report.html.")] = Path(
        "everlode-report"
    ),
) -> None:
    """Start a real three-region stack, work, fail, back up, destroy, recover, and prove it.

    Exit code 13 when anything differs. Example: everlode demo --share 0.1 --report out
    """
    if speed <= 0:
        raise typer.BadParameter("above 0 expected", param_hint="--speed")
    found = trace or settings().trace
    reported = progress()
    with _interruptible(reported):
        run = Demo(Options(found, seed, speed, share, kill_at, keep), reported)
        try:
            outcome = run.run()
        except BaseException:
            if run.root.exists():
                reported(Note("demo", f"logs are in {run.root}"))
            raise
    plain, page = reports.save(outcome.report, report)
    error = None
    if outcome.report["failures"]:
        first = "; ".join(outcome.report["failures"][:5])
        where = f"all of it is in {plain}, logs are in {run.root}"
        hint = "; ".join(filter(None, (reports.way_out(outcome.report), where)))
        error = IntegrityError(f"not proved: {first}", hint=hint)
    if as_json:  # one document, also when it is not proved
        body = outcome.report | ({} if error is None else {"error": error.as_dict()})
        sys.stdout.write(json.dumps(body, default=str) + "\n")
        raise typer.Exit(0 if error is None else error.exit_code)
    table = Grid(show_header=False, box=None)
    for name, text in reports.summary(outcome.report):
        table.add_row(name, text)
    screen().print(table)
    sys.stdout.write(f"{plain}\n{page}\n")
    if error is not None:
        raise error


@contextmanager
def _interruptible(report: Sink) -> Iterator[None]:
    """SIGTERM ends the demo like Ctrl-C does: everything is stopped. Asked again: it goes on.

    Once asked the process only ends, and is deaf to both signals until it has.
    """
    already = False

    def asked(_signal: int, _frame: object) -> None:
        nonlocal already
        if not already:
            already = True
            report(Note("demo", "stopping everything"))
            raise KeyboardInterrupt

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if already else handler)
