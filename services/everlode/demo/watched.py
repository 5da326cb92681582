"""The page on which a run is watched: `everlode serve`, one of the run's processes.

It listens before the stack comes up, and answers once it has. Shell.
"""

from __future__ import annotations

from everlode.fleet.fleet import Fleet
from everlode.stack.native.ports import HOST, choose_ports
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink

PAGE = "page"
"""Its name, and its kind among the run's processes."""
WAIT_S = 3600
"""A stack whose parts are built first is waited for, too."""


def serve_page(fleet: Fleet, report: Sink) -> None:
    """Start it on a free port of the loopback, and say its address. Does not wait.

    Raises: Unavailable: no port is free.
    """
    port = choose_ports((PAGE,), {}, {})[PAGE]
    report(Note(PAGE, f"http://{HOST}:{port} shows this run while it lasts"))
    options = ("--insecure", "--port", str(port), "--wait", str(WAIT_S))
    fleet.cli(PAGE, PAGE, "serve", *options)
