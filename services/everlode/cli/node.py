"""`everlode node run`: one node of a mining service, until SIGTERM."""

from __future__ import annotations

from typing import Annotated

import typer

from everlode.cli.options import Dir, Json, NodeId, Region, noun, stack_dir
from everlode.processes.node import NodeSpec, run_node

app = noun("Nodes of the mining services.")


@app.command()
def run(
    kind: Annotated[
        str, typer.Argument(help="task-manager, miner-registry, validator or reward-distributor.")
    ],
    region: Region,
    node_id: NodeId,
    folder: Dir = None,
    validator_kind: Annotated[
        str, typer.Option(help="For validators: automatic, peer-review or expert.")
    ] = "automatic",
    priority: Annotated[int, typer.Option(help="Preference at promotion; higher first.")] = 0,
    specialty: Annotated[
        list[str] | None,
        typer.Option(help="Type of task that it gets before others; give it for each."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run one node.

    Example: everlode node run task-manager --region eu --node-id eu-tm-1 --dir STACK
    """
    spec = NodeSpec(kind, region, node_id, validator_kind, priority, tuple(specialty or ()))
    run_node(spec, stack_dir(folder))
