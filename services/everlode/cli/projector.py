"""`everlode projector run`: one projector of a region, until SIGTERM."""

from __future__ import annotations

from everlode.cli.options import Dir, Json, NodeId, Region, noun, stack_dir
from everlode.processes.projector import run_projector
from everlode.settings.endpoints import Endpoints

app = noun("The projector: bulk catch-up, then Faust.")


@app.command()
def run(region: Region, node_id: NodeId, folder: Dir = None, as_json: Json = False) -> None:
    """Run one projector.

    Example: everlode projector run --region eu --node-id eu-proj-1 --dir STACK
    """
    run_projector(region, node_id, Endpoints.load(stack_dir(folder)))
