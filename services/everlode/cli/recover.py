"""`everlode recover plan | run`. Data to stdout, progress to stderr."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from everlode.backup.chosen import WALKED, chosen, walk
from everlode.backup.differences import require_alike
from everlode.backup.stored import age_ms
from everlode.cli.backup import open_place, out
from everlode.cli.options import Bucket, Dir, Json, Keys, noun, progress
from everlode.recovery.operation import recover, report_dict
from everlode.recovery.planner import stages
from everlode.recovery.request import RecoveryRequest, load_request

app = noun("Rebuild a region's projection from a backup and the log's tail.")
PlanFile = Annotated[
    Path | None, typer.Argument(help="Plan (YAML); without one: latest backup of --region.")
]
Region = Annotated[str, typer.Option("--region", help="Region, when there is no plan file.")]
HELD = 3


def _plan(path: Path | None, region: str) -> RecoveryRequest:
    if path is not None:
        return load_request(path)
    return RecoveryRequest(
        plan_name=f"recover-{region}", disaster_type="database-corruption", target_region=region
    )


@app.command("plan")
def plan_(
    path: PlanFile = None,
    region: Region = "eu",
    folder: Dir = None,
    keys: Keys = None,
    bucket: Bucket = None,
    as_json: Json = False,
) -> None:
    """Show what a recovery would do; changes nothing.

    Example: everlode recover plan plan.yaml
    """
    wanted = _plan(path, region)
    place = open_place(folder, keys, bucket)
    shelf = place.shelf(wanted.target_region)
    manifest = chosen(shelf, wanted.backup, place.endpoints.control(), progress())
    walk(shelf, progress(), WALKED)
    require_alike(manifest, place.topology, progress())
    found = stages(manifest)
    if as_json:
        out(
            {
                "plan": wanted.model_dump(mode="json"),
                "backup_id": manifest.backup_id,
                "cut_age_ms": age_ms(manifest),
                "stages": [s._asdict() for s in found],
            }
        )
        return
    typer.echo(f"{wanted.plan_name}: {wanted.disaster_type} in {wanted.target_region}")
    typer.echo(f"from {manifest.backup_id}, cut {age_ms(manifest) / 1000:.0f} s ago, then the tail")
    for number, stage in enumerate(found, 1):
        typer.echo(f"  {number}. {stage.component}: {stage.records} records, {stage.bytes} bytes")
    typer.echo("  6. switch, when every gate has passed")


@app.command("run")
def run_(
    path: PlanFile = None,
    region: Region = "eu",
    staging: Annotated[
        Path | None,
        typer.Option(help="Folder for objects and journal; the same one resumes a killed run."),
    ] = None,
    folder: Dir = None,
    keys: Keys = None,
    bucket: Bucket = None,
    as_json: Json = False,
) -> None:
    """Recover a region; run it again after an interruption and it goes on where it was.

    Ends with 3 when the result is held: a gate failed, and nothing was switched.

    Example: everlode recover run plan.yaml
    """
    wanted = _plan(path, region)
    place = open_place(folder, keys, bucket)
    work = staging or place.folder / "recovery" / wanted.target_region
    result = recover(
        wanted,
        place.endpoints,
        place.topology,
        place.store,
        place.keys,
        work,
        report=progress(),
    )
    value: dict[str, Any] = report_dict(result)
    if as_json:
        out(value)
    else:
        _print(value)
    if result.held:
        raise typer.Exit(HELD)


def _print(value: dict[str, Any]) -> None:
    verdict = "HELD, nothing was switched" if value["held"] else "recovered"
    took = value["end_ms"] - value["start_ms"]
    typer.echo(
        f"{value['plan_name']}: {verdict}; generation {value['generation']}"
        f" from {value['backup_id']} in {took} ms"
    )
    for c in value["components"]:
        mark = "ok  " if c["success"] else "HELD"
        typer.echo(
            f"  {mark} {c['component']}: {c['records_restored']} restored,"
            f" {c['events_replayed']} replayed, {c['data_loss_events']} lost,"
            f" {c['recovery_time_ms']} ms {'; '.join(c['reasons'])}"
        )
    tasks = value["tasks"]
    typer.echo(
        f"  active tasks: {tasks['fully_recovered']} fully,"
        f" {tasks['partially_recovered']} partly, of {tasks['total_tasks']}"
    )
    for name in value["lost_event_ids"]:
        typer.echo(f"  lost: {name}")
    typer.echo(
        f"  RPO {'met' if value['rpo_met'] else 'MISSED'},"
        f" RTO {'met' if value['rto_met'] else 'MISSED'}"
    )
