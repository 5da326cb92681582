"""`everlode node|projector|detector|coordinator run`: one process each, until SIGTERM."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from everlode.errors import ConfigError
from everlode.events.services import BY_NODE
from everlode.settings.endpoints import Endpoints

Region = Annotated[str, typer.Option(help="Region it runs in, e.g. eu.")]
NodeId = Annotated[str, typer.Option(help="Its id, unique in the network, e.g. eu-tm-1.")]
Where = Annotated[
    Path | None, typer.Option("--dir", help="Folder of the stack; EVERLODE_STACK_DIR without it.")
]

Json = Annotated[
    bool, typer.Option("--json", help="An error that ends it as JSON, on standard output.")
]


def load_endpoints(folder: Path | None) -> Endpoints:
    """Endpoints of the stack in `folder`. Raises: ConfigError; NotFound."""
    found = folder or (Path(p) if (p := os.environ.get("EVERLODE_STACK_DIR")) else None)
    if found is None:
        raise ConfigError("no stack is named", hint="give --dir, or set EVERLODE_STACK_DIR")
    return Endpoints.load(found)


def _app(text: str) -> typer.Typer:
    made = typer.Typer(add_completion=False, no_args_is_help=True, help=text)

    @made.callback()
    def _nothing() -> None:
        """Verbs follow."""

    return made


node = _app("Nodes of the mining services.")
projector = _app("The projector: bulk catch-up, then Faust.")
detector = _app("The failure detector: Faust on the heartbeats.")
coordinator = _app("The coordinator: barriers, probes, decisions, failover.")


@node.command("run")
def run_node(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(BY_NODE)}.")],
    region: Region,
    node_id: NodeId,
    folder: Where = None,
    validator_kind: Annotated[
        str, typer.Option(help="For validators: automatic, peer-review or expert.")
    ] = "automatic",
    priority: Annotated[int, typer.Option(help="Preference at promotion; higher first.")] = 0,
    as_json: Json = False,
) -> None:
    """Run one node.

    Example: everlode node run task-manager --region eu --node-id eu-tm-1 --dir STACK
    """
    from everlode.processes.node import NodeSpec
    from everlode.processes.node import run_node as run

    spec = NodeSpec(kind, region, node_id, validator_kind, priority)
    run(spec, load_endpoints(folder))


@projector.command("run")
def run_projector(
    region: Region, node_id: NodeId, folder: Where = None, as_json: Json = False
) -> None:
    """Run one projector.

    Example: everlode projector run --region eu --node-id eu-proj-1 --dir STACK
    """
    from everlode.processes.projector import run_projector as run

    run(region, node_id, load_endpoints(folder))


@detector.command("run")
def run_detector(
    region: Region, node_id: NodeId, folder: Where = None, as_json: Json = False
) -> None:
    """Run one detector.

    Example: everlode detector run --region eu --node-id eu-det-1 --dir STACK
    """
    from everlode.processes.detector import run_detector as run

    run(region, node_id, load_endpoints(folder))


@coordinator.command("run")
def run_coordinator(
    region: Region, node_id: NodeId, folder: Where = None, as_json: Json = False
) -> None:
    """Run one coordinator; a second one of the region stands by.

    Example: everlode coordinator run --region eu --node-id eu-co-1 --dir STACK
    """
    from everlode.processes.coordinator import run_coordinator as run

    run(region, node_id, load_endpoints(folder))
