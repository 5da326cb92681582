"""`everlode backup create | list | show | verify | drop | keys`. Data to stdout, else to stderr."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from everlode.adapters.s3 import S3Store
from everlode.backup.age import concerns
from everlode.backup.chosen import Shelf, chosen, newest_noted, walk
from everlode.backup.drop import drop_backups
from everlode.backup.keys import DEFAULT_KEY, KeyRing
from everlode.backup.operation import back_up, leased
from everlode.backup.verify import verify as verify_backup
from everlode.cli.options import (
    Bucket,
    Dir,
    Json,
    Keys,
    Region,
    keys_dir,
    noun,
    progress,
    stack_dir,
)
from everlode.errors import ConfigError, IntegrityError, Unavailable
from everlode.events.control import BackupMade
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import settings
from everlode.telemetry.entries import Note, Unanswered
from everlode.topics import Topology
from everlode.views.backups import (
    Finished,
    Foreign,
    Listed,
    Unfinished,
    Unusable,
    records_of,
    shown,
)

DEGRADED = 20

app = noun("Backups of a region, encrypted and signed, in S3.")
keys_app = noun("Keys that open backups: keep copies elsewhere.")
app.add_typer(keys_app, name="keys")


class Opened(NamedTuple):
    """What the commands work on."""

    folder: Path
    endpoints: Endpoints
    topology: Topology
    store: S3Store
    keys: KeyRing

    def shelf(self, region: str) -> Shelf:
        """Where a region's backups are."""
        return Shelf(self.store, self.keys, region)


def open_place(folder: Path | None, keys: Path | None, bucket: str | None) -> Opened:
    """The stack, its store and the keys. Raises: ConfigError; NotFound: no stack there."""
    root = stack_dir(folder)
    endpoints = Endpoints.load(root)
    if endpoints.s3 is None:
        raise ConfigError("this stack has no object store", hint="start it with one: --s3 auto")
    cfg = settings()
    name = bucket or cfg.bucket or endpoints.s3.buckets[0]
    store = S3Store(endpoints.s3.endpoint, endpoints.s3.keys(), name)
    topology = cfg.topology_of(endpoints)
    return Opened(root, endpoints, topology, store, KeyRing(keys_dir(keys, root)))


def out(value: Any) -> None:
    """One JSON document, to stdout."""
    typer.echo(json.dumps(value, indent=2, sort_keys=True))


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


@app.command()
def create(
    region: Region = "eu",
    folder: Dir = None,
    keys: Keys = None,
    bucket: Bucket = None,
    key_id: Annotated[
        str, typer.Option("--key", help="Name of the key that wraps the data keys.")
    ] = DEFAULT_KEY,
    verify: Annotated[bool, typer.Option(help="Read it all back and compare it.")] = True,
    max_age: Annotated[
        int | None,
        typer.Option(
            help="Seconds that its cut may be behind the logs and the clock;"
            " EVERLODE_BACKUP_MAX_AGE_S without it.",
            min=1,
            metavar="S",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Back a region up while it works; ends with 20 when the backup is whole, but of long ago.

    With 20 too when a state topic or PostgreSQL has lost what the backup has.

    Example: everlode backup create --region eu --max-age 60
    """
    place = open_place(folder, keys, bucket)
    manifest = back_up(
        region, place.endpoints, place.topology, place.store, place.keys,
        key_id=key_id, check=verify, report=progress(),
    )  # fmt: skip
    if as_json:
        out(manifest.model_dump(mode="json"))
    else:
        typer.echo(
            f"{manifest.backup_id}: {records_of(manifest)} records,"
            f" {manifest.total_backup_size} bytes, cut {_time(manifest.cut_stamp >> 16)} UTC"
        )
    found = concerns(manifest, max_age or settings().backup_max_age_s)
    for concern in found:
        progress()(Note("backup", f"{manifest.backup_id}: {concern}"))
    if found:
        raise typer.Exit(DEGRADED)


@app.command("list")
def list_(
    region: Region = "eu",
    folder: Dir = None,
    keys: Keys = None,
    bucket: Bucket = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Unfinished ones and foreign objects too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the backups of a region, oldest first; their chain is walked.

    Ends with 20 when the newest that was made is not among them, or the chain is broken.

    Example: everlode backup list --region eu --all
    """
    place = open_place(folder, keys, bucket)
    found = shown(place.shelf(region), _noted(place, region), unfinished=everything)
    if as_json:
        rows = [row._asdict() for row in found.rows]
        out({"region": region, "backups": rows, "behind": found.behind})
    else:
        for row in found.rows:
            typer.echo(_row(row))
        if found.behind:
            typer.echo(f"MISSING: {found.behind}")
        elif not found.rows:
            progress()(Note("backup", f"there is none of {region}"))
    if not found.whole:
        raise typer.Exit(DEGRADED)


def _noted(place: Opened, region: str) -> BackupMade | None:
    """What the control log notes; a list can be had without it."""
    try:
        return newest_noted(place.endpoints.control(), region)
    except Unavailable as error:
        lacking = f"whether the newest is here is not known: {error.message}"
        progress()(Unanswered(error.code, lacking, error.hint))
        return None


def _row(row: Listed) -> str:
    match row:
        case Finished():
            made = f"{_time(row.created_at_ms)} UTC"
            size = f"{row.records:>8} records  {row.bytes:>10} bytes"
            chain = f"  CHAIN: {row.chain}" if row.chain else ""
            return f"{row.backup_id}  {made}  {size}{_age(row)}{chain}"
        case Unusable():
            return f"{row.backup_id}  NOT USABLE: {row.error}"
        case Unfinished():
            return f"{row.backup_id}  unfinished: no manifest"
        case Foreign():
            return f"{row.key}  foreign: no object of a backup, passed over"


def _age(row: Finished) -> str:
    """How old its cut was when it was made, and what was lost then; empty when nobody noted it."""
    if row.behind_logs_ms is None or row.behind_clock_ms is None:
        return ""
    behind = max(row.behind_logs_ms, row.behind_clock_ms) // 1000
    return f"  cut {behind} s old" + (f"  {row.lost} states lost beside it" if row.lost else "")


@app.command()
def show(
    backup_id: Annotated[str, typer.Argument(help="An id, latest or oldest.")] = "latest",
    region: Region = "eu",
    folder: Dir = None,
    keys: Keys = None,
    bucket: Bucket = None,
    as_json: Json = False,
) -> None:
    """Show what a backup holds; its signature is checked.

    Example: everlode backup show latest --region eu
    """
    place = open_place(folder, keys, bucket)
    m = chosen(place.shelf(region), backup_id, place.endpoints.control(), progress()).manifest
    if as_json:
        out(m.model_dump(mode="json"))
        return
    typer.echo(f"backup      {m.backup_id} ({m.backup_type}) of {m.region}, by {m.tool}")
    typer.echo(f"made        {_time(m.created_at_ms)} UTC in "
               f"{m.completed_at_ms - m.created_at_ms} ms")  # fmt: skip
    typer.echo(f"cut         {_time(m.cut_stamp >> 16)} UTC, stamp {m.cut_stamp}")
    if m.age is not None:
        typer.echo(f"behind      the logs by {m.age.behind_logs_ms} ms, the clock by"
                   f" {m.age.behind_clock_ms} ms, when it was made")  # fmt: skip
    if m.compared is not None:
        typer.echo(f"compared    with {m.compared.rows} rows; {m.compared.from_rows} states taken"
                   f" from rows, {m.compared.without_row} without a row")  # fmt: skip
    for component, then, now in m.fewer:
        typer.echo(f"fewer       {component}: {now} records, {then} in the parent")
    typer.echo(f"parent      {m.parent_id or 'none'}")
    typer.echo(f"key         {m.encryption_key_id}")
    typer.echo(f"write-once  {'yes' if m.write_once else 'NOT write-once: the store cannot'}")
    for o in m.objects:
        typer.echo(f"  {o.component}/{o.partition}: {o.records} records, {o.cipher_bytes} bytes")
    for p in m.positions:
        note = "" if p.status == "live" else f"  {p.status}"
        typer.echo(f"  {p.topic}/{p.partition} up to seq {p.seq}{note}")
    for problem in m.problems:
        typer.echo(f"  {problem.kind} in {problem.topic}/{problem.partition}: {problem.key}")


@app.command()
def verify(
    backup_id: Annotated[str, typer.Argument(help="An id, latest or oldest.")] = "latest",
    region: Region = "eu",
    level: Annotated[str, typer.Option(help="exists, hash or decode.")] = "decode",
    folder: Dir = None,
    keys: Keys = None,
    bucket: Bucket = None,
    as_json: Json = False,
) -> None:
    """Verify a backup and its parent's place in the chain, and name what is broken further back.

    Any mismatch names the object and ends with 13 (12: wrong key).

    Example: everlode backup verify latest --region eu --level hash
    """
    place = open_place(folder, keys, bucket)
    shelf, report = place.shelf(region), progress()
    meant = chosen(shelf, backup_id, place.endpoints.control(), report)
    name = meant.manifest.backup_id
    found = verify_backup(*shelf, name, level, report)
    if reason := walk(shelf, report).get(name):
        raise IntegrityError(
            f"backup {name} is right in itself, but {reason}",
            code="chain_broken",
            hint="find out who changed the store: backups are removed from the oldest on, only",
        )
    if as_json:
        out({"backup_id": found.manifest.backup_id, "level": found.level, "verified": True,
             "objects": found.objects, "records": found.records,
             "passed_over": meant.passed_over})  # fmt: skip
        return
    typer.echo(f"{found.manifest.backup_id}: {found.objects} objects right ({found.level})")


@app.command()
def drop(
    backup_id: Annotated[str, typer.Argument(help="Its id; all that are older go with it.")],
    region: Region = "eu",
    folder: Dir = None,
    keys: Keys = None,
    bucket: Bucket = None,
    even_newest: Annotated[
        bool, typer.Option("--even-newest", help="The newest whole one too: then there is none.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Drop a backup and all that are older, once the newest that stays is verified.

    No backup runs meanwhile. Example: everlode backup drop 20260301T120000123-a1b2c3
    """
    place = open_place(folder, keys, bucket)
    control, longest_ms = place.endpoints.control(), place.topology.min_compaction_lag_ms
    with leased(control, region, longest_ms) as lease:
        found = drop_backups(
            place.shelf(region), backup_id, lease.newest, even_newest=even_newest,
            report=progress(),
        )  # fmt: skip
    if as_json:
        out({"region": region, "dropped": list(found.backups), "stays": found.stays})
    else:
        typer.echo(f"{len(found.backups)} dropped; the newest is {found.stays or 'none'}")


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="Name of the key.")] = DEFAULT_KEY,
    folder: Dir = None,
    keys: Keys = None,
    as_json: Json = False,
) -> None:
    """Make a key; an existing one is never replaced.

    Example: everlode backup keys create backup-v2
    """
    ring = KeyRing(keys_dir(keys, stack_dir(folder)))
    ring.create(name)
    if as_json:
        out({"keys": ring.names()})
        return
    typer.echo(f"{name} is in {ring.folder}; keep a copy elsewhere: without it no backup opens")


@keys_app.command("list")
def keys_list(folder: Dir = None, keys: Keys = None, as_json: Json = False) -> None:
    """List the keys at hand.

    Example: everlode backup keys list
    """
    ring = KeyRing(keys_dir(keys, stack_dir(folder)))
    if as_json:
        out({"folder": str(ring.folder), "keys": ring.names()})
        return
    for name in ring.names():
        typer.echo(name)
    if not ring.names():
        none = f"there is none in {ring.folder}: everlode backup keys create"
        progress()(Note("keys", none))
