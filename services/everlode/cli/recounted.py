"""`scope explain --replay`, `--with` and `status --detector`: how they are shown. Shell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import typer

from everlode.cli.tables import Grid, screen
from everlode.settings.endpoints import Endpoints
from everlode.views.detector import checked, figures, of_scope, otherwise, tuning_of

DIFFERENT = ("node_id", "event", "at", "with", "sooner_s", "actionable")
TIMES = ("rule", "verdicts", "median_ms", "p95_ms", "most_ms")
WRONG = ("node_id", "at", "silence_ms", "rule")


class Asked(NamedTuple):
    """What is asked of the record of a scope's region."""

    scope: str
    replay: bool
    policy: Path | None


def recount(asked: Asked, folder: Path, as_json: bool) -> None:
    """Print it. Raises: IntegrityError: the verdicts do not follow from the log. ConfigError: see
    `tuning_of`; Refusal, NotFound, Unavailable: see `of_scope`.
    """
    tuning = None if asked.policy is None else tuning_of(asked.policy)
    found, component = of_scope(Endpoints.load(folder), asked.scope)
    shown: dict[str, Any] = {"scope": asked.scope}
    verdicts = checked(found) if asked.replay else None
    if verdicts is not None:
        shown["replay"] = verdicts.as_dict()
    if tuning is not None:
        shown["with"] = otherwise(found, tuning, component)
    if not as_json:
        _show(shown)
    if verdicts is not None:
        verdicts.require_agreed()
    if as_json:
        typer.echo(json.dumps(shown, indent=2))


def _show(shown: dict[str, Any]) -> None:
    console = screen()
    if "replay" in shown:
        replay = shown["replay"]
        console.print(
            f"{replay['agreed']} verdicts follow from the log, byte for byte;"
            f" {replay['pending']} are too new, {replay['gone']} too old to be judged"
        )
        for wrong in replay["disagreements"]:
            console.print(f"{wrong['event']} of {wrong['node_id']} {wrong['what']}", style="red")
    if "with" in shown:
        console.print(Grid.of(DIFFERENT, shown["with"], "with these settings"))


def show_detectors(endpoints: Endpoints, as_json: bool) -> None:
    """Print how good each region's detector was. Raises: Unavailable."""
    found = [figures(endpoints, region) for region in endpoints.regions]
    if as_json:
        typer.echo(json.dumps({"detectors": found}, indent=2))
        return
    console = screen()
    for one in found:
        console.print(
            f"{one['region']}: {one['nodes']} nodes from {one['from']} to {one['to']};"
            f" {one['lost']} taken as lost, of which {one['ended']} had ended,"
            f" {one['stood_still']} stood still, {len(one['false_positives'])} wrongly;"
            f" {len(one['misses'])} missed; blind {one['blind']} times"
        )
        console.print(Grid.of(TIMES, one["time_to_detect"], "time to detect"))
        for name in ("false_positives", "misses"):
            if one[name]:
                console.print(Grid.of(WRONG, one[name], name.replace("_", " ")))
