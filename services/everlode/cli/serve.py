"""`everlode serve`: the HTTP face of a network, until SIGTERM."""

from __future__ import annotations

import json
import threading
import time
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
from everlode.errors import ConfigError, NotFound
from everlode.events.control import BackupMade
from everlode.processes.host import hosted, until_signal
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import Settings
from everlode.views.backups import Shown, shown

app = typer.Typer(add_completion=False)
LOOK_S = 0.2
"""How often a stack that is waited for is looked for."""


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
    wait: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Listen at once, and wait for a new stack."),
    ] = 0.0,
    folder: Dir = None,
    keys: Keys = None,
    as_json: Json = False,
) -> None:
    """Serve queries, commands, recovery events, a page and metrics over HTTP.

    Prints its address first. With --wait it may be started before its stack: who asks it then waits
    for an answer until that is up. Example: everlode serve --insecure --dir STACK
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
    home = region
    if not wait:
        home = _home(Endpoints.load(root), region)  # what is not there is said before an address is
    with hosted("-".join(filter(None, ("serve", home))), scrape=False) as process:
        ring = KeyRing(keys_dir(keys, root))
        stop = until_signal()  # what the server's own handlers leave is an end, not a death

        def place() -> ServedRegion | None:
            endpoints = _awaited(root, wait, stop)
            if endpoints is None:
                return None
            return ServedRegion(
                endpoints,
                _home(endpoints, region),
                _backups(endpoints, ring, process.cfg),
                partial(scope_explained, endpoints, process.cfg),
            )

        serve(place, site, Hooks(partial(_show, as_json=as_json), process.report, stop))


def _home(endpoints: Endpoints, region: str | None) -> str:
    """The region that is served. Raises: ConfigError: it is not in the endpoints."""
    home = region or endpoints.topology.regions[0]
    endpoints.region(home)
    return home


def _awaited(root: Path, wait_s: float, stop: threading.Event) -> Endpoints | None:
    """The endpoints of a stack, waited for while it comes up; None: `stop` was set before.

    Raises: NotFound: there is none in time. ConfigError: the file is damaged.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return Endpoints.load(root)
        except NotFound:
            if time.monotonic() > deadline:
                raise
        if stop.wait(LOOK_S):
            return None


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
