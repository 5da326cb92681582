"""A process as Prometheus finds and scrapes it: a port of the loopback, and a file that names it.

The file is one of `file_sd_configs`, named for the process. One that is killed leaves it, so that
Prometheus says that its target is down. Invariant: no process ends, or does not begin, for want of
its figures. Shell: a port and its threads, one file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from prometheus_client import start_http_server

from everlode.telemetry.entries import Unanswered
from everlode.telemetry.figures import REGISTRY
from everlode.telemetry.sink import Sink

HOST = "127.0.0.1"


class Scraping(NamedTuple):
    """Where the figures of processes are to be had."""

    port: int | None
    """None: any that is free, if there is a folder; else nowhere."""
    folder: Path | None
    """Gets the file; None: nobody is told."""


@contextmanager
def scraped(name: str, place: Scraping, report: Sink) -> Iterator[None]:
    """Answer scrapes while the block lasts. What prevents it is reported."""
    if place == Scraping(None, None):
        yield
        return
    file = None if place.folder is None else place.folder / f"{quote(name, safe='')}.json"
    try:
        server, thread = start_http_server(place.port or 0, HOST, REGISTRY)
    except OSError as error:
        report(_missing(f"port {place.port} of {HOST}: {error.strerror}"))
        yield
        return
    try:
        if file is not None:
            _write(file, name, f"{HOST}:{server.server_port}", report)
        yield
    finally:
        if file is not None:
            _forget(file, f"{HOST}:{server.server_port}")
        server.shutdown()
        server.server_close()
        thread.join()


def _write(file: Path, name: str, target: str, report: Sink) -> None:
    draft = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps([{"targets": [target], "labels": {"process": name}}]) + "\n")
        os.replace(draft, file)
    except OSError as error:
        report(_missing(f"{file}: {error.strerror}"))


def _forget(file: Path, target: str) -> None:
    """Take the file away, unless it is another process's of the same name by now."""
    with suppress(OSError):
        if f'"{target}"' in file.read_text():
            file.unlink()


def _missing(why: str) -> Unanswered:
    hint = "another EVERLODE_METRICS_PORT, or EVERLODE_METRICS_DIR, and start it again"
    return Unanswered("no_figures", f"its figures are not to be had: {why}", hint)
