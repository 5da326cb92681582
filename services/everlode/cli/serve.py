"""`everlode serve`: the HTTP face of a network, until SIGTERM."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from everlode.adapters.s3 import S3Store
from everlode.api.issuer import Issuer, Trust
from everlode.api.members import Trusted
from everlode.api.network import ServedRegion
from everlode.api.server import Hooks, Site, check_site, serve
from everlode.api.tokens import load
from everlode.backup.chosen import Shelf
from everlode.backup.keys import KeyRing
from everlode.cli.options import Dir, Json, Keys, absolute, keys_dir, stack_dir
from everlode.cli.scope import scope_explained
from everlode.errors import ConfigError
from everlode.events.control import BackupMade
from everlode.processes.host import hosted, until_signal
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import Settings
from everlode.views.backups import Shown, shown

app = typer.Typer(add_completion=False)


@app.command()
def run(
    region: Annotated[
        str | None, typer.Option(help="Region that it serves; the first without it.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: any that is free.")] = 0,
    tokens: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Tokens: lines of NAME ROLE SHA256.")
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option(metavar="URL", help="OpenID Connect issuer whose tokens count instead."),
    ] = None,
    audience: Annotated[str, typer.Option(help="What its tokens must be for.")] = "everlode",
    roles_claim: Annotated[str, typer.Option(help="Their claim with roles.")] = "roles",
    name_claim: Annotated[str, typer.Option(help="Their claim with who it is.")] = "sub",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="No tokens, on the loopback only.")
    ] = False,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second of one caller.")] = 200.0,
    folder: Dir = None,
    keys: Keys = None,
    as_json: Json = False,
) -> None:
    """Serve queries, commands, recovery events, a page and metrics over HTTP.

    Prints its address first. Example: everlode serve --insecure --dir STACK
    """
    root = stack_dir(folder)
    if [insecure, tokens is not None, issuer is not None].count(True) != 1:
        raise ConfigError(
            "one of --tokens FILE, --issuer URL and --insecure", hint="--insecure to try it out"
        )
    trusted: Trusted | None = load(absolute(tokens)) if tokens else None
    if issuer is not None:
        trusted = Issuer(Trust(issuer, audience, roles_claim, name_claim)).open()
    site = Site(host, port, trusted, rate)
    check_site(site)
    endpoints = Endpoints.load(root)
    home = region or endpoints.topology.regions[0]
    endpoints.region(home)
    with hosted(f"serve-{home}") as process:
        ring = KeyRing(keys_dir(keys, root))
        stop = until_signal()  # what the server's own handlers leave is an end, not a death
        serve(
            ServedRegion(
                endpoints,
                home,
                _backups(endpoints, ring, process.cfg),
                partial(scope_explained, endpoints, process.cfg),
            ),
            site,
            Hooks(partial(_show, as_json=as_json), process.report, stop),
        )


def _show(address: str, *, as_json: bool) -> None:
    typer.echo(json.dumps({"address": address}) if as_json else address)


def _backups(
    endpoints: Endpoints, keys: KeyRing, cfg: Settings
) -> Callable[[str, BackupMade | None], Shown] | None:
    """How a region's backups are listed, as `everlode backup list` does; None: no store."""
    s3 = endpoints.s3
    if s3 is None:
        return None
    store = S3Store(s3.endpoint, s3.keys(), cfg.bucket or s3.buckets[0])
    return lambda region, noted: shown(Shelf(store, keys, region), noted)
