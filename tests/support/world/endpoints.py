"""Endpoints of a broker that a test has started by itself."""

from __future__ import annotations

from pathlib import Path

from everlode.settings.endpoints import Endpoints, RegionEndpoints
from everlode.topics import Topology


def one_region(bootstrap: str, partitions: int) -> Endpoints:
    """Region eu on a broker, which is the control cluster too; no database answers."""
    region = RegionEndpoints(
        kafka_bootstrap=bootstrap, origin="eu.1",
        postgres_dsn="postgresql://u@127.0.0.1:9/d", postgres_password_file=Path("/nowhere"),
    )  # fmt: skip
    return Endpoints(
        topology=Topology(regions=("eu",), partitions=partitions), regions={"eu": region},
        control_bootstrap=bootstrap, s3=None,
    )  # fmt: skip
