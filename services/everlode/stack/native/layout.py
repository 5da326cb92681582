"""What a stack consists of and where it keeps it.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from everlode.errors import ConfigError
from everlode.topics import Topology

BUCKETS = ("everlode-a", "everlode-b")


def log_of(data_dir: Path, name: str) -> Path:
    """The log of a process, e.g. of eu/kafka, in a stack's folder."""
    return data_dir / "logs" / f"{name.replace('/', '-')}.log"


@dataclass(frozen=True)
class Layout:
    """Names, folders and files of one stack."""

    topology: Topology
    data_dir: Path
    mirrors: bool
    control_nodes: int
    s3: bool

    def __post_init__(self) -> None:
        if self.topology.replication != 1:
            raise ConfigError(
                f"topology: replication {self.topology.replication}: the native stack has one "
                "broker a region",
                hint="set replication and min_insync to 1",
            )
        if self.control_nodes and self.control_nodes < self.topology.control_replication:
            raise ConfigError(
                f"topology: control_replication {self.topology.control_replication} needs as many "
                f"control nodes, there are {self.control_nodes}"
            )

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions in the topology's order."""
        return self.topology.regions

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the control nodes."""
        return tuple(f"control/{n}" for n in range(1, self.control_nodes + 1))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all processes."""
        names = [f"{region}/{part}" for region in self.regions for part in ("kafka", "postgres")]
        names += self.controls
        if self.mirrors:
            names += [f"{region}/mirror" for region in self.regions]
        if self.s3:
            names.append("s3")
        return tuple(names)

    @property
    def port_names(self) -> tuple[str, ...]:
        """One port a process, and a second for the controller in each Kafka node."""
        kafka = [n for n in self.names if n.endswith("/kafka") or n in self.controls]
        return (*self.names, *(f"{name}/controller" for name in kafka))

    def folder(self, name: str) -> Path:
        """Where a process keeps its settings and data."""
        return self.data_dir / name

    def data(self, name: str) -> Path | None:
        """What `wipe` destroys; None for a process without data of its own."""
        if name.endswith("/mirror"):
            return None
        return self.folder(name) / "data"

    def config(self, name: str) -> Path:
        """The properties file of a Java process."""
        return self.folder(name) / "server.properties"

    def scratch(self, name: str) -> Path:
        """What a Java process unpacks while it runs."""
        return self.folder(name) / "scratch"

    def log(self, name: str) -> Path:
        """The log of a process."""
        return log_of(self.data_dir, name)

    def secret(self, name: str) -> Path:
        """A file of mode 0600."""
        return self.data_dir / "secrets" / name
