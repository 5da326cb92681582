"""`everlode coordinator run`: one coordinator of a region, until SIGTERM."""

from __future__ import annotations

from everlode.cli.options import Dir, Json, NodeId, Region, noun, stack_dir
from everlode.processes.coordinator import run_coordinator
from everlode.settings.endpoints import Endpoints

app = noun("The coordinator: barriers, probes, decisions, failover.")


@app.command()
def run(region: Region, node_id: NodeId, folder: Dir = None, as_json: Json = False) -> None:
    """Run one coordinator; a second one of the region stands by.

    Example: everlode coordinator run --region eu --node-id eu-co-1 --dir STACK
    """
    run_coordinator(region, node_id, Endpoints.load(stack_dir(folder)))
