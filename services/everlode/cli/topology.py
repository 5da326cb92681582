"""`everlode topology check | plan | apply | show`: one file that says what a network is. Shell."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from everlode.cli.options import Dir, Json, absolute, noun, progress, stack_dir
from everlode.cli.tables import Grid, screen
from everlode.errors import Precondition
from everlode.stack.services import Member
from everlode.telemetry.entries import Note
from everlode.topology.apply import apply as carry_out
from everlode.topology.apply import described, planned
from everlode.topology.check import check as checked
from everlode.topology.check import read, text_of
from everlode.topology.plan import Plan, as_row
from everlode.topology.render import as_data, rendered
from everlode.topology.rules import no_majority
from everlode.topology.running import look

WRONG = 2
app = noun("One file that says what a network is: regions, clusters, policies.")

File = Annotated[Path, typer.Argument(help="Topology file, YAML; see docs/topology.md.")]


@app.command(epilog="Example: everlode topology check network.yaml")
def check(file: File, as_json: Json = False) -> None:
    """Say what a file wants, or all that is wrong with it: file, line, rule. Asks no stack.

    Exit code 2 when anything is wrong.
    """
    found = checked(text_of(absolute(file)))
    members = sorted(found.network.members) if found.network else []
    note = no_majority(found.network.topology.regions) if found.network else ""
    if as_json:
        rows = [{"file": str(file), **finding._asdict()} for finding in found.findings]
        said = {
            "ok": not rows, "findings": rows, "members": [_member(m) for m in members],
            "notes": [note] if note else [],
        }  # fmt: skip
        typer.echo(json.dumps(said, indent=2))
    for finding in () if as_json else found.findings:
        typer.echo(f"{file}:{finding.line}: {finding.rule}: {finding.message}")
    if not as_json and found.network is not None:
        regions = ", ".join(found.network.topology.regions)
        typer.echo(f"{file}: right; regions {regions}; {len(members)} processes beside their parts")
        if members:
            shown = [_member(m) for m in members]
            screen().print(Grid.of(("process", "kind", "priority"), shown))
    if note and not as_json:
        typer.echo(f"{file}: {note}")
    if found.findings:
        raise typer.Exit(WRONG)


@app.command(epilog="Example: everlode topology plan network.yaml --json")
def plan(file: File, directory: Dir = None, as_json: Json = False) -> None:
    """Show what an apply would do to the running stack, in its order. Changes nothing.

    Exit code 14 when the stack does not run, or cannot become what the file wants.
    """
    _show_plan(planned(stack_dir(directory), read(absolute(file))), as_json)


@app.command(epilog="Example: everlode topology apply network.yaml --yes")
def apply(
    file: File,
    directory: Dir = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for all of it.")] = 900.0,
    as_json: Json = False,
) -> None:
    """Make the running stack what the file wants: what is missing starts, what is different is
    replaced, what is not wanted leaves, each step waited for.

    Applied again it does nothing; cut short it goes on where it was. Without --yes it asks, and off
    a terminal ends with 14.
    """
    folder, wanted = stack_dir(directory), read(absolute(file))
    if dry_run:
        _show_plan(planned(folder, wanted), as_json)
        return

    def sure(found: Plan) -> None:
        if yes:
            return
        if not sys.stdin.isatty() or as_json:
            raise Precondition(
                f"{len(found.steps)} steps wait for a confirmation", code="not_confirmed",
                hint="add --yes; --dry-run shows them",
            )  # fmt: skip
        _show_plan(found, as_json=False)
        typer.confirm("Do this?", abort=True)

    done = carry_out(folder, wanted, sure, timeout, progress())
    if as_json:
        typer.echo(json.dumps({"done": [as_row(step) for step in done]}, indent=2))
    else:
        typer.echo(f"{len(done)} steps done" if done else "nothing to do: it runs as the file says")


@app.command(epilog="Example: everlode topology show > network.yaml")
def show(directory: Dir = None, as_json: Json = False) -> None:
    """Print what runs as a topology file, which `plan` finds equal.

    What such a file could not say, as of a change that is half done, is noted on standard error.
    """
    running = look(stack_dir(directory))
    text = rendered(running.network)
    notes = [f"line {f.line}: {f.rule}: {f.message}" for f in checked(text).findings]
    notes += [f"{name} is down: its supervisor starts it" for name in sorted(running.down)]
    notes += [f"{m.name} is leaving" for m in sorted(running.leaving)]
    if as_json:
        said = {"topology": as_data(running.network), "notes": notes}
        typer.echo(json.dumps(said, indent=2))
        return
    report = progress()
    for note in notes:
        report(Note("topology", note))
    typer.echo(text, nl=False)


def _show_plan(found: Plan, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"steps": [as_row(step) for step in found.steps]}, indent=2))
        return
    if not found.steps:
        typer.echo("nothing to do: it runs as the file says")
    for number, step in enumerate(found.steps, start=1):
        typer.echo(f"{number}. {described(step)}")


def _member(member: Member) -> dict[str, Any]:
    return {
        "process": member.name, "node_id": member.node_id,
        "kind": f"{member.kind} {member.validator_kind}".rstrip(), "priority": member.priority,
        "settings": dict(member.settings), "specialties": list(member.specialties),
    }  # fmt: skip
