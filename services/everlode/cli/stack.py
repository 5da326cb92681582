"""`everlode stack up | down | status | logs | doctor | fetch`: the native stack, by hand.

Data go to stdout, progress to stderr. Shell.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from everlode.adapters.s3 import S3Store
from everlode.cli.options import Dir, Json, absolute, noun, progress, stack_dir
from everlode.cli.stack_new import New, ports_of, remember
from everlode.cli.stack_other import EndpointsFile, Other, Provider, start_other
from everlode.cli.tables import Grid, screen
from everlode.errors import (
    NotFound,
    Precondition,
)
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import settings
from everlode.stack.compose.condition import look as look_at_containers
from everlode.stack.compose.stack import ComposeStack
from everlode.stack.condition import Condition, look
from everlode.stack.doctor import Diagnosis, examine
from everlode.stack.native.detach import start_detached, stop_detached
from everlode.stack.native.lock import holder, read_record
from everlode.stack.native.logs import Line, Logs
from everlode.stack.native.members import beside
from everlode.stack.native.parts import provision
from everlode.stack.native.state import write_state
from everlode.stack.native.supervisor import (
    StopAsked,
    begin,
    build,
    heal,
    stop_on_signals,
)
from everlode.telemetry.entries import Note
from everlode.views.contents import Finding
from everlode.views.contents_asked import contents_of

DEGRADED = 20
INTERRUPTED = 130
_POLL_S = 0.1

app = noun("Start, watch and stop a whole stack on this machine: Kafka, mirrors, PostgreSQL, S3.")


@dataclass(frozen=True)
class _Up:
    """What `up` was asked for."""

    folder: Path
    ports: dict[str, int]
    remake_topics: bool


@app.command(epilog="Example: everlode stack up --topology network.yaml")
def up(
    directory: Dir = None,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach/--foreground",
            help="Return once it serves and leave it running, or stay until Ctrl-C.",
        ),
    ] = True,
    regions: Annotated[
        str, typer.Option(help="Regions, by commas. Of a new folder only.", metavar="R,R")
    ] = "",
    mirrors: Annotated[
        bool | None,
        typer.Option(
            "--mirrors/--no-mirrors", help="Run a MirrorMaker 2 a region.", show_default="yes"
        ),
    ] = None,
    s3: Annotated[
        str, typer.Option(help="auto, minio, rclone or none.", show_default="auto", metavar="S")
    ] = "",
    services: Annotated[
        str,
        typer.Option(
            help="Also run the regions' own processes, and heal them: all, none, or KIND=COUNT by"
            " commas, e.g. coordinator=1,projector=1.",
            show_default="none; with --topology its clusters",
            metavar="S",
        ),
    ] = "",
    topology: Annotated[
        Path | None,
        typer.Option(help="Topology file: what the stack is, and what its regions run."),
    ] = None,
    port: Annotated[
        list[str] | None,
        typer.Option(
            help="A fixed port, e.g. eu/kafka=9092; else a free one.", metavar="NAME=PORT"
        ),
    ] = None,
    remake_topics: Annotated[
        bool,
        typer.Option(
            "--remake-topics",
            help="Make topics again, empty, that are gone and that a database has positions for.",
        ),
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait, with --detach.")] = 900.0,
    provider: Provider = "native",
    endpoints_file: EndpointsFile = None,
    as_json: Json = False,
) -> None:
    """Start a stack and wait until all of it serves. Data of an earlier one are found again.

    Its supervisor starts again what ends, later and later, and gives it up after ten times in half
    an hour. What a supervisor left running is taken over.
    """
    asked = _Up(stack_dir(directory), ports_of(port or []), remake_topics)
    if provider != "native" or endpoints_file is not None:
        chosen = Other(provider, endpoints_file, regions, mirrors is not False, services)
        _print_endpoints(start_other(asked.folder, chosen, asked.ports, progress()), as_json)
        return
    if holder(asked.folder) is None:
        file = None if topology is None else absolute(topology)
        remember(asked.folder, New(regions, mirrors, s3, services, file))
    if detach:
        endpoints = start_detached(
            asked.folder, asked.ports, timeout, progress(), remake_topics=remake_topics
        )
        _print_endpoints(endpoints, as_json)
    else:
        _foreground(asked, as_json)


@app.command(epilog="Example: everlode stack fetch")
def fetch(as_json: Json = False) -> None:
    """Fetch, check and build the parts that stacks are started from, once per user."""
    parts = provision(progress())
    server = parts.s3
    found = {
        "cache": str(parts.cache),
        "java": str(parts.jvm.java),
        "postgres": str(parts.postgres_bin),
        "s3": None if server is None else str(server.binary),
    }
    if as_json:
        typer.echo(json.dumps(found))
        return
    for what, where in found.items():
        typer.echo(f"{what}: {where}")


def _foreground(asked: _Up, as_json: bool) -> None:
    stop_on_signals()
    stack = build(asked.folder, asked.ports, remake_topics=asked.remake_topics)
    report = progress()
    ready = False
    try:
        endpoints = begin(stack, beside(asked.folder, stack.topology.regions), report)
        ready = True
        write_state(asked.folder, "ready", timings_s=stack.timings_s)
        _print_endpoints(endpoints, as_json)
        report(Note("stack", "running; Ctrl-C stops it"))
        heal(stack, endpoints, report)
    except StopAsked:
        report(Note("stack", "stopping"))
        if not ready:
            raise typer.Exit(INTERRUPTED) from None
    finally:
        stack.down()
    write_state(asked.folder, "stopped")


@app.command(epilog="Example: everlode stack down")
def down(
    directory: Dir = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 90.0,
    as_json: Json = False,
) -> None:
    """Stop a stack and wait for it. Its data stay. No error when none runs."""
    folder = stack_dir(directory)
    if (containers := ComposeStack.found(folder)) is not None:
        ran = bool(containers.processes())
        containers.down()
        said = f"stopped, data are in the engine's volumes of {containers.project}"
        typer.echo(json.dumps({"stopped": ran, "pid": None}) if as_json else said)
        return
    pid = stop_detached(folder, timeout)
    if as_json:
        typer.echo(json.dumps({"stopped": pid is not None, "pid": pid}))
    else:
        typer.echo(f"stopped, data are in {folder}" if pid else "no stack ran")


@app.command(epilog="Example: everlode stack status --json")
def status(directory: Dir = None, as_json: Json = False) -> None:
    """Ask every part of a stack whether it serves. Exit code 20 when one does not, or the stack is
    not ready; 0 when it is, or was stopped; 10 when there is none.
    """
    folder = stack_dir(directory)
    if not folder.is_dir():
        raise NotFound(f"no stack in {folder}", hint="start one: everlode stack up")
    containers = ComposeStack.found(folder)
    found = look(folder) if containers is None else look_at_containers(containers)
    if as_json:
        rest = {n: value for n, value in found._asdict().items() if n != "parts"}
        typer.echo(json.dumps({"dir": str(folder), **rest, "processes": _rows(found)}))
    else:
        _show_status(folder, found)
    if not found.as_asked:
        raise typer.Exit(DEGRADED)


def _rows(found: Condition) -> list[dict[str, Any]]:
    return [part._asdict() for part in found.parts]


def _show_status(folder: Path, found: Condition) -> None:
    console = screen()
    console.print(f"{found.state}, pid {found.pid or '-'}, {folder}")
    if found.why:
        console.print(found.why)
    if found.parts:
        table = Grid("process", "pid", "state", "restarts", "resident MiB", "why it does not serve")
        for part in found.parts:
            pid = str(part.pid or "-")
            figures = (str(part.restarts), str(part.resident_mib))
            table.add_row(part.name, pid, part.state, *figures, part.why)
        console.print(table)


@app.command(epilog="Example: everlode stack logs eu/kafka -f")
def logs(
    name: Annotated[
        str | None, typer.Argument(help="Process, e.g. us/mirror; all without.")
    ] = None,
    directory: Dir = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it grows.")] = False,
    lines: Annotated[int, typer.Option("-n", min=0, help="Last lines of each.")] = 50,
    as_json: Json = False,
) -> None:
    """Print the logs of a stack's processes, of a stopped one too."""
    found = Logs(stack_dir(directory), name)
    _print_lines(found.last(lines), as_json, found.several)
    try:
        while follow:
            time.sleep(_POLL_S)
            _print_lines(found.grown(), as_json, found.several)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _print_lines(lines: Iterable[Line], as_json: bool, several: bool) -> None:
    for found in lines:
        if as_json:
            typer.echo(json.dumps(found._asdict()))
        else:
            typer.echo(f"{found.process}: {found.line}" if several else found.line)


@app.command(epilog="Example: everlode stack doctor --json")
def doctor(directory: Dir = None, as_json: Json = False) -> None:
    """Compare every topic with the catalogue, ask for every mirror's state, find the readers that
    retention will overtake, and compare what the stores hold with what others know of it.

    Exit code 20 when something differs; each difference names topic, setting, expected and found,
    each reader its lag, the retention and the way out, each store what it lacks and who knows it.
    """
    folder = stack_dir(directory)
    endpoints = Endpoints.load(folder)
    if holder(folder) is None:
        raise Precondition("the stack is not running", hint="everlode stack up")
    topology = settings().topology_of(endpoints)
    found = examine(topology, endpoints)
    held = contents_of(topology, endpoints, _store(endpoints), found.unreachable)
    found = found._replace(unreachable=held.unreachable | found.unreachable)
    gone = [p.name for p in read_record(folder) if not p.alive]
    if as_json:
        typer.echo(json.dumps(_as_dict(found, held.findings, gone)))
    else:
        _show_diagnosis(found, gone)
        for one in held.findings:
            typer.echo(f"{one.region}: {one.where}: {one.text} ({one.kind}); {one.hint}")
    if not found.green or gone or held.findings:
        raise typer.Exit(DEGRADED)


def _store(endpoints: Endpoints) -> S3Store | None:
    """Where the stack's backups are; None: it was started without an object store."""
    if endpoints.s3 is None:
        return None
    bucket = settings().bucket or endpoints.s3.buckets[0]
    return S3Store(endpoints.s3.endpoint, endpoints.s3.keys(), bucket)


def _as_dict(found: Diagnosis, contents: Iterable[Finding], gone: list[str]) -> dict[str, Any]:
    return {
        "green": found.green and not gone and not contents,
        "topics_checked": found.topics_checked,
        "drifts": [drift._asdict() for drift in found.drifts],
        "flows": [flow._asdict() | {"runs": flow.runs} for flow in found.flows],
        "lags": [lag._asdict() for lag in found.lags],
        "held": [one._asdict() for one in found.held],
        "late": [late._asdict() | {"hint": late.hint} for late in found.late],
        "contents": [one._asdict() for one in contents],
        "unreachable": found.unreachable,
        "gone": gone,
    }


def _show_diagnosis(found: Diagnosis, gone: list[str]) -> None:
    console = screen()
    console.print(f"{found.topics_checked} topics checked, {len(found.drifts)} differences")
    if found.drifts:
        table = Grid("cluster", "topic", "setting", "expected", "found")
        for drift in found.drifts:
            table.add_row(drift.cluster, drift.topic, drift.setting, drift.expected, drift.found)
        console.print(table)
    for flow in found.flows:
        said = "stands still" if flow.stands_still else "does not run"
        word = "runs" if flow.runs else f"{said}: {flow.connector} {list(flow.tasks)}"
        behind = [g for g in found.lags if (g.source, g.target) == (flow.source, flow.target)]
        records = sum(lag.records for lag in behind)
        console.print(
            f"mirror {flow.source} → {flow.target} {word}, {records} records behind {flow.trace}"
        )
    for held in found.held:
        console.print(
            f"{held.cluster}: a transaction that somebody left open {held.age_s} s ago holds up"
            f" who reads {held.topic}/{held.partition} from offset {held.offset} on"
        )
    for late in found.late:
        what = f"has lost {late.removed} offsets" if late.removed else "loses records soon"
        console.print(
            f"{late.reader} {what} of {late.topic}/{late.partition} in {late.cluster}: it is"
            f" {late.lag_ms / 1000:.0f} s behind, retention is {late.retention_ms / 1000:.0f} s;"
            f" {late.hint}"
        )
    for cluster, why in found.unreachable.items():
        console.print(f"{cluster} does not answer: {why}")
    for name in gone:
        console.print(f"{name} is gone")


def _print_endpoints(endpoints: Endpoints, as_json: bool) -> None:
    if as_json:
        typer.echo(endpoints.model_dump_json())
        return
    table = Grid("what", "where")
    for name, region in endpoints.regions.items():
        table.add_row(f"{name} Kafka", region.kafka_bootstrap)
        table.add_row(f"{name} PostgreSQL", region.postgres_dsn)
    table.add_row("control Kafka", endpoints.control_bootstrap or "-")
    if endpoints.s3 is not None:
        table.add_row(f"S3 ({endpoints.s3.server})", endpoints.s3.endpoint)
    screen().print(table)
