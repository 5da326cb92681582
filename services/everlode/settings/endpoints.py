"""A running stack's topology, where it listens, and how to log in: all that others know of it.

Invariants: the topology of a network is the stack's, here; no default stands for it. No secret is
in an `Endpoints`; secrets are in files of mode 0600 that it names.
Shell: reads and writes the JSON file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from everlode.errors import ConfigError, NotFound
from everlode.topics import Topology

FILE_NAME = "endpoints.json"


class RegionParts(NamedTuple):
    """What a process of a region needs to write facts and read commands."""

    region: str
    origin: str
    bootstrap: str
    """host:port of the region's broker."""
    partitions: int


class RegionEndpoints(BaseModel):
    """Of one region."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka_bootstrap: str
    """host:port of the broker."""
    postgres_dsn: str
    """libpq URI without the password."""
    postgres_password_file: Path
    origin: str
    """Region and incarnation, e.g. eu.1."""
    mirror_rest: str | None = None
    """Base URL of the internal REST server of this region's MirrorMaker."""

    def postgres_conninfo(self) -> str:
        """libpq URI *with* the password: for connect(), never for logs or argv."""
        password = self.postgres_password_file.read_text().strip()
        return self.postgres_dsn.replace("@", f":{password}@", 1)


class S3Endpoint(BaseModel):
    """Of the object store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str
    """host:port, plain HTTP."""
    access_key_file: Path
    secret_key_file: Path
    buckets: tuple[str, ...]
    server: str
    """minio or rclone."""
    reason: str
    """Why this server was chosen."""

    def keys(self) -> tuple[str, str]:
        """Access key and secret key, read from their files."""
        access = self.access_key_file.read_text().strip()
        return access, self.secret_key_file.read_text().strip()


class Endpoints(BaseModel):
    """Of a whole stack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topology: Topology
    """What the stack's topics were made from."""
    regions: dict[str, RegionEndpoints]
    control_bootstrap: str | None
    s3: S3Endpoint | None

    @model_validator(mode="after")
    def _check(self) -> Self:
        listening = {name: region.origin for name, region in self.regions.items()}
        expected = {name: self.topology.origin(name) for name in self.topology.regions}
        if listening != expected:
            raise ValueError(f"origins: {listening}, by the topology {expected}")
        return self

    def region(self, name: str) -> RegionEndpoints:
        """Where a region's parts listen. Raises: ConfigError: it is not in the endpoints."""
        if name not in self.regions:
            raise ConfigError(
                f"region {name!r} is not in the endpoints",
                hint=f"there are: {', '.join(self.regions)}",
            )
        return self.regions[name]

    def parts(self, name: str) -> RegionParts:
        """What a process of a region needs. Raises: ConfigError: it is not in the endpoints."""
        region = self.region(name)
        return RegionParts(name, region.origin, region.kafka_bootstrap, self.topology.partitions)

    def control(self) -> str:
        """host:port of the control cluster. Raises: ConfigError: there is none."""
        if self.control_bootstrap is None:
            raise ConfigError("endpoints: there is no control cluster", hint="start a whole stack")
        return self.control_bootstrap

    def save(self, data_dir: Path) -> Path:
        """Write `endpoints.json` into `data_dir` (atomic rename)."""
        path = data_dir / FILE_NAME
        draft = path.with_suffix(".tmp")
        draft.write_text(self.model_dump_json(indent=2) + "\n")
        os.replace(draft, path)
        return path

    @classmethod
    def load(cls, data_dir: Path | str) -> Endpoints:
        """Read `endpoints.json` of a stack.

        Raises: NotFound: there is no stack in `data_dir`. ConfigError: the file is damaged.
        """
        path = Path(data_dir) / FILE_NAME
        try:
            return cls.model_validate_json(path.read_text())
        except FileNotFoundError:
            raise NotFound(f"no stack in {data_dir}", hint="start one: everlode stack up") from None
        except (UnicodeDecodeError, ValidationError) as exc:
            raise ConfigError(
                f"{path}: not an endpoints file: {exc}", hint="everlode stack down, then up"
            ) from exc
