"""`everlode detector run`: one failure detector of a region, until SIGTERM."""

from __future__ import annotations

from everlode.cli.options import Dir, Json, NodeId, Region, noun, stack_dir
from everlode.processes.detector import run_detector
from everlode.settings.endpoints import Endpoints

app = noun("The failure detector: Faust on the heartbeats.")


@app.command()
def run(region: Region, node_id: NodeId, folder: Dir = None, as_json: Json = False) -> None:
    """Run one detector.

    Example: everlode detector run --region eu --node-id eu-det-1 --dir STACK
    """
    run_detector(region, node_id, Endpoints.load(stack_dir(folder)))
