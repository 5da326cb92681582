"""What the topic catalogue needs to know of a network: regions, origins, partitions, replication.

Pure.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from everlode.errors import ConfigError
from everlode.events.tasktypes import DEFAULT_TASK_TYPES, check_task_types
from everlode.topics.names import check_regions


class Topology(BaseModel):
    """Regions and the numbers that are equal in all of them."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True
    )

    regions: tuple[str, ...] = ("eu", "us", "ap")
    """Their names; each has a cluster of its own and copies the facts of all others."""
    incarnations: dict[str, int] = Field(default_factory=dict)
    """Incarnation of a region that is not at its first."""
    partitions: int = Field(default=2, ge=1, le=1024)
    """Partitions of every fact, command, state and heartbeat topic."""
    replication: int = Field(default=1, ge=1)
    """Replicas in a region's cluster."""
    min_insync: int = Field(default=1, ge=1)
    """Replicas in a region's cluster that have a record before it is acknowledged."""
    control_replication: int = Field(default=3, ge=1)
    """Sites of the control log, each with a node that has all of it."""
    control_min_insync: int = Field(default=2, ge=1)
    """Sites that have a decision before it is acknowledged."""
    retention_ms: int = Field(default=7 * 86_400_000, ge=60_000)
    """Retention of fact and signal topics."""
    min_compaction_lag_ms: int = Field(default=1_800_000, ge=0)
    """Above the tolerated skew plus four times the longest backup."""
    task_types: tuple[str, ...] = DEFAULT_TASK_TYPES
    """Types of tasks that clients may submit."""
    operators: tuple[str, ...] = ()
    """Names of those who may ask what is an operator's, as lifting a suspension for fraud; without
    any, nobody may."""

    @model_validator(mode="after")
    def _check(self) -> Topology:
        for region, incarnation in self.incarnations.items():
            if region not in self.regions or incarnation < 1:
                raise ValueError(
                    f"incarnations: {region}: {incarnation}; expected a region of the topology "
                    "and a number from 1"
                )
        if self.min_insync > self.replication:
            raise ValueError("min_insync: at most replication")
        if self.control_min_insync > self.control_replication:
            raise ValueError("control_min_insync: at most control_replication")
        try:
            check_regions(self.regions)
            check_task_types(self.task_types)
        except ConfigError as error:
            raise ValueError(f"{error.message}; {error.hint}") from None
        return self

    def origin(self, region: str) -> str:
        """Origin of a region now, e.g. eu.1."""
        return f"{region}.{self.incarnations.get(region, 1)}"

    @property
    def origins(self) -> tuple[str, ...]:
        """Origins of all regions, in their order."""
        return tuple(self.origin(region) for region in self.regions)
