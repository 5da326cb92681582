"""`everlode stack up --provider compose | external`: a stack that is not native. Shell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from everlode.errors import ConfigError
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import settings
from everlode.settings.topology import load_topology
from everlode.stack import ComposeStack, ExternalStack, StackProvider
from everlode.stack.compose.parts import VARIABLES, Images
from everlode.stack.services import parse_services
from everlode.telemetry.sink import Sink

PROVIDERS = ("native", "compose", "external")
Provider = Annotated[
    str,
    typer.Option(
        help="native: processes of this machine; compose: containers, of the images that"
        " KAFKA_IMAGE, POSTGRES_IMAGE, MINIO_IMAGE, SERVICES_IMAGE name; external: what runs"
        " elsewhere.",
        metavar="P",
    ),
]
EndpointsFile = Annotated[
    Path | None,
    typer.Option("--endpoints", help="With external: where it listens.", metavar="FILE"),
]


class Other(NamedTuple):
    """What the options say."""

    provider: str
    endpoints: Path | None
    regions: str
    mirrors: bool
    services: str


def images() -> Images:
    """As the variables name them, else the official ones."""
    named = zip(VARIABLES, Images(), strict=True)
    return Images(*(os.environ.get(variable) or image for variable, image in named))


def start_other(folder: Path, asked: Other, ports: dict[str, int], report: Sink) -> Endpoints:
    """Start it, or look at it; its endpoints are kept in the folder. Raises: ConfigError; as up."""
    return _provider(folder, asked, ports).up(report)


def _provider(folder: Path, asked: Other, ports: dict[str, int]) -> StackProvider:
    if asked.provider not in PROVIDERS:
        raise ConfigError(f"--provider {asked.provider}: expected {', '.join(PROVIDERS)}")
    if (asked.provider == "external") != (asked.endpoints is not None):
        raise ConfigError(
            "--provider external and --endpoints FILE belong together",
            hint="FILE is as endpoints.json in the folder of a stack",
        )
    if asked.endpoints is not None:
        if asked.regions or asked.services or ports:
            raise ConfigError(
                "--provider external: what runs is said by its endpoints",
                hint="without --regions, --services and --port",
            )
        return ExternalStack(asked.endpoints, folder)
    more = {"regions": tuple(r.strip() for r in asked.regions.split(","))} if asked.regions else {}
    return ComposeStack(
        load_topology(settings().topology, **more), folder, mirrors=asked.mirrors,
        services=parse_services(asked.services or "all"), images=images(), ports=ports,
    )  # fmt: skip
