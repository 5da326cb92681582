"""A stack in containers: names of its services, ports inside and outside, its endpoints. Pure.

A part or process has one name in every provider, as eu/kafka; its container's service is named
eu-kafka. Inside the stack's network each part listens on the usual port of its kind; outside each
has a port of its own on 127.0.0.1, and Kafka one that it gives to those who come from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from everlode.errors import ConfigError
from everlode.settings.endpoints import Endpoints, RegionEndpoints, S3Endpoint
from everlode.stack.native.layout import BUCKETS, Layout
from everlode.stack.native.ports import HOST

FOLDER = Path("/everlode")
"""Where settings, secrets and endpoints are in every container; written by the preparation."""
DATA = Path("/data")
"""Where a part's own volume is in its container."""
VOLUMES = Path("/volumes")
"""Where the preparation has all of them, numbered: a new volume gets the owner of that folder in
the image that has it first, so that no part needs root to take its own."""
MOST_VOLUMES = 32
USER = "10001:10001"
"""Of everything that runs."""
INSIDE = {"kafka": 9092, "control": 9092, "postgres": 5432, "mirror": 8083, "s3": 9000}
"""Kind → port in the stack's network."""
OUTSIDE = 29092
"""Port of a broker for those who come from outside the network."""
CONTROLLER = 9093
FIRST_PORT = 19000
"""On 127.0.0.1, of the first part, where nothing else is said."""
DATABASE = "everlode"


class Images(NamedTuple):
    """What the containers are made of."""

    services: str = "everlode:0.1.0"
    kafka: str = "apache/kafka:4.3.1"
    postgres: str = "postgres:18"
    s3: str = "minio/minio:RELEASE.2025-09-07T16-13-09Z"


VARIABLES = Images("SERVICES_IMAGE", "KAFKA_IMAGE", "POSTGRES_IMAGE", "MINIO_IMAGE")
"""Variable that names another image, by field."""


def service_of(name: str) -> str:
    """eu/kafka → eu-kafka."""
    return name.replace("/", "-")


def kind_of(part: str) -> str:
    """kafka, control, mirror, postgres or s3."""
    first, _, last = part.partition("/")
    return "control" if first == "control" else last or first


def with_data(layout: Layout) -> list[str]:
    """Parts that have a volume, in its numbering. Raises: ConfigError: more than there can be."""
    found = [name for name in layout.names if layout.data(name) is not None]
    if len(found) > MOST_VOLUMES:
        raise ConfigError(
            f"a stack in containers has {MOST_VOLUMES} volumes at most, this one {len(found)}",
            hint="fewer regions or control nodes",
        )
    return found


def default_ports(layout: Layout) -> dict[str, int]:
    """Part → its port on 127.0.0.1, one after another."""
    return {name: FIRST_PORT + n for n, name in enumerate(layout.names)}


def variable_of(part: str) -> str:
    """eu/kafka → EU_KAFKA_PORT: what sets its port outside."""
    return f"{service_of(part).replace('-', '_').upper()}_PORT"


Place = Callable[[str], str]
"""Part → host:port."""


def inside(part: str) -> str:
    """Where a part listens for the other containers."""
    return f"{service_of(part)}:{INSIDE[kind_of(part)]}"


def outside(ports: Mapping[str, int]) -> Place:
    """Where parts listen for this machine."""
    return lambda part: f"{HOST}:{ports[part]}"


def endpoints_of(layout: Layout, place: Place) -> Endpoints:
    """Where everything listens, seen from where `place` is right; secrets below the layout's."""

    def region(name: str) -> RegionEndpoints:
        return RegionEndpoints(
            kafka_bootstrap=place(f"{name}/kafka"),
            postgres_dsn=f"postgresql://{DATABASE}@{place(f'{name}/postgres')}/{DATABASE}",
            postgres_password_file=layout.secret(f"{name}-postgres"),
            origin=layout.topology.origin(name),
            mirror_rest=f"http://{place(f'{name}/mirror')}" if layout.mirrors else None,
        )

    s3 = None
    if layout.s3:
        s3 = S3Endpoint(
            endpoint=place("s3"),
            access_key_file=layout.secret("s3-access"),
            secret_key_file=layout.secret("s3-secret"),
            buckets=BUCKETS,
            server="minio",
            reason="what the compose file runs",
        )
    return Endpoints(
        topology=layout.topology,
        regions={name: region(name) for name in layout.regions},
        control_bootstrap=",".join(map(place, layout.controls)) or None,
        s3=s3,
    )
