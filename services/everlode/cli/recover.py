"""`everlode recover plan | run | beginning | list | drop`. Data to stdout, progress to stderr."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from everlode.backup.chosen import WALKED, chosen, walk
from everlode.backup.differences import require_alike
from everlode.backup.stored import age_ms
from everlode.cli.backup import open_place, out
from everlode.cli.options import Bucket, Dir, Json, Keys, noun, progress, stack_dir
from everlode.errors import ConfigError
from everlode.events.services import BY_FACTS
from everlode.log.beginning import Copies, fill
from everlode.processes.node import NodeSpec, component_of
from everlode.recovery.generations import drop_generation, generations
from everlode.recovery.operation import recover, report_dict
from everlode.recovery.planner import ACCEPTABLE, stages
from everlode.recovery.request import RecoveryRequest, load_request
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import settings
from everlode.views.health import services_health

app = noun("Rebuild a region's projection from a backup and the log's tail.")
PlanFile = Annotated[
    Path | None, typer.Argument(help="Plan (YAML); without one: latest backup of --region.")
]
Region = Annotated[str, typer.Option("--region", help="Region, when there is no plan file.")]
Staging = Annotated[
    Path | None,
    typer.Option(help="Folder for objects and journal; the same one resumes what is not over."),
]
HELD = 3
SHOWN = 5
"""Lines of a kind that are printed of a component."""


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
    meant = chosen(shelf, wanted.backup, place.endpoints.control(), progress())
    manifest = meant.manifest
    walk(shelf, progress(), WALKED)
    require_alike(manifest, place.topology, progress())
    found = stages(manifest)
    if as_json:
        out(
            {
                "plan": wanted.model_dump(mode="json"),
                "backup_id": manifest.backup_id,
                "passed_over": meant.passed_over,
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
    staging: Staging = None,
    folder: Dir = None,
    keys: Keys = None,
    bucket: Bucket = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            "--accept", metavar="KIND",
            help=f"What of it does not hold it: {', '.join(ACCEPTABLE)}. May be repeated.",
        ),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; recorded with --accept.")] = "",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Recover a region; run it again after an interruption and it goes on where it was.

    Ends with 3 when the result is held: something was found against it, and nothing was switched.
    It is kept: run it again to have the failed stages asked anew, with --accept for what is left.

    Example: everlode recover run plan.yaml --accept lost --reason "seen by the board"
    """
    wanted = _plan(path, region)
    place = open_place(folder, keys, bucket)
    work = _work(place.folder, wanted.target_region, staging)
    result = recover(
        wanted,
        place.endpoints,
        place.topology,
        place.store,
        place.keys,
        work,
        accept=accept or (),
        reason=reason,
        report=progress(),
        services=partial(services_health, place.endpoints, wanted.target_region),
    )
    value: dict[str, Any] = report_dict(result)
    if as_json:
        out(value)
    else:
        _print(value)
    if result.held:
        raise typer.Exit(HELD)


@app.command()
def beginning(
    component: Annotated[
        str, typer.Argument(help="Whose log lacks it: tasks, miners, validations or rewards.")
    ],
    source: Annotated[
        str, typer.Option("--from", metavar="REGION", help="The region whose copy has it.")
    ],
    region: Region = "eu",
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Get the beginning that a region's fact log has lost, from another region's copy of it.

    For nodes that end with `beginning_lost`: retention, or somebody, removed facts that no snapshot
    had. What lacks goes into the log's snapshot, from which the next node begins; the log itself is
    not written. Run it again after an interruption. Nothing happens where nothing lacks.

    Example: everlode recover beginning tasks --region eu --from us
    """
    root, cfg = stack_dir(folder), settings()
    endpoints = Endpoints.load(root)
    service = BY_FACTS.get(component)
    if service is None:
        raise ConfigError(f"no log {component!r}", hint=f"one of: {', '.join(BY_FACTS)}")
    parts, there = endpoints.parts(region), endpoints.parts(source)
    if there.region == region:
        raise ConfigError(f"{region} has the log itself", hint="--from another region")
    spec = NodeSpec(service.node, region, f"{region}-nobody")
    made = component_of(spec, cfg.topology_of(endpoints), cfg, cfg.payouts(root))
    copies = {r: p.kafka_bootstrap for r, p in endpoints.regions.items() if r != region}
    found = fill(made.folds, parts, component, Copies(source, copies), progress())
    if as_json:
        filled = [one._asdict() for one in found]
        out({"region": region, "component": component, "source": source, "filled": filled})
        return
    if not found:
        typer.echo(f"nothing lacks in {region}'s log of {component}")
    for one in found:
        known = "; the log was emptied, and no copy goes further" if one.emptied else ""
        typer.echo(
            f"partition {one.partition}: seq {one.first} to {one.last} of {component} are in"
            f" {region}'s snapshot{known}"
        )


@app.command("list")
def list_(region: Region = "eu", folder: Dir = None, as_json: Json = False) -> None:
    """List the generations of a region's projection: the current one, and those that are left.

    Example: everlode recover list --region eu
    """
    place = Endpoints.load(stack_dir(folder)).region(region)
    found = generations(place.postgres_conninfo(), place.kafka_bootstrap)
    if as_json:
        out({"region": region, "generations": [g._asdict() for g in found]})
        return
    for one in found:
        parts = ", ".join(
            name for name, there in (("tables", one.tables), ("state topics", one.topics)) if there
        )
        mark = "current" if one.current else "not used: everlode recover drop"
        typer.echo(f"{one.generation:>4}  {mark}  ({parts})")


@app.command()
def drop(
    generation: Annotated[int, typer.Argument(help="Its number; never the current one.")],
    region: Region = "eu",
    staging: Staging = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Drop a generation that is not current: of a recovery that was held, or replaced.

    A recovery that was to go on with it is over by that; the next one begins anew.

    Example: everlode recover drop 3 --region eu
    """
    root = stack_dir(folder)
    place = Endpoints.load(root).region(region)
    drop_generation(
        place.postgres_conninfo(), place.kafka_bootstrap, generation,
        _work(root, region, staging), region,
    )  # fmt: skip
    if as_json:
        out({"region": region, "dropped": generation})
    else:
        typer.echo(f"generation {generation} of {region} is dropped")


def _work(root: Path, region: str, staging: Path | None) -> Path:
    """Folder of the journals of a region's recoveries."""
    return staging or root / "recovery" / region


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
            f" {c['events_replayed']} replayed, {_lost(c)}, {c['recovery_time_ms']} ms"
        )
        for what in ("fetched", "reasons", "accepted", "waiting"):
            for text in c[what][:SHOWN]:
                typer.echo(f"       {what.removesuffix('s')}: {text}")
            if len(c[what]) > SHOWN:
                typer.echo(f"       {len(c[what]) - SHOWN} more; the report has them")
    for text in value["reasons"]:
        typer.echo(f"  HELD {text}")
    if services := value["services"]:
        score = "unknown" if services["score"] is None else f"{services['score']:.3f}"
        typer.echo(f"  health of its services: {score} {services['reason']}".rstrip())
    for word in value["accepted"]:
        typer.echo(f"  accepted by {word['by']}: {', '.join(word['kinds'])}: {word['reason']}")
    tasks = value["tasks"]
    typer.echo(
        f"  active tasks: {tasks['fully_recovered']} fully,"
        f" {tasks['partially_recovered']} partly, of {tasks['total_tasks']}"
    )
    for name in value["lost_event_ids"]:
        typer.echo(f"  lost: {name}")
    typer.echo(f"  ends of logs compared with: {', '.join(value['compared_with'])}")
    typer.echo(
        f"  RPO {'met' if value['rpo_met'] else 'MISSED'},"
        f" RTO {'met' if value['rto_met'] else 'MISSED'}"
    )


def _lost(component: dict[str, Any]) -> str:
    """How many events are lost, in words: what is not known is not 0."""
    count = component["data_loss_events"]
    if not component["unknown"]:
        return f"{count} lost"
    return f"at least {count} lost, more is unknown" if count else "loss unknown"
