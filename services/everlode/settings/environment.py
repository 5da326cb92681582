"""Settings of a process: from the environment (EVERLODE_*), checked once, then frozen."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from everlode.adapters.clock import Clock, PacedClock, WallClock
from everlode.control.lease import check_fence_after
from everlode.errors import ConfigError
from everlode.topics import Topology


class Settings(BaseSettings):
    """All settings; durations in milliseconds unless their name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="EVERLODE_", frozen=True, extra="ignore")

    topology: Path | None = None
    """JSON or YAML file of the topology; the default three regions without it."""
    clock_file: Path | None = None
    """Knots of a paced event clock."""
    beat_ms: int = Field(default=1000, ge=100)
    renew_ms: int = Field(default=2000, ge=100)
    fence_after_ms: int = Field(default=12_000, ge=1000)
    control_election_ms: int = Field(default=5000, ge=0)
    """Measured pause of the control log when its leader is killed."""
    lease_s: int = Field(default=3600, ge=1)
    """Lease of an assignment, in seconds of event time."""
    max_concurrent: int = Field(default=20_000, ge=1)
    """Tasks that one task manager node manages at once."""
    payout_dir: Path = Path("payouts")
    """Folder of the journal that stands for the payout system."""

    def clock(self) -> Clock:
        """The event clock. Raises: ConfigError."""
        return PacedClock.load(self.clock_file) if self.clock_file else WallClock()

    def load_topology(self) -> Topology:
        """The topology. Raises: ConfigError: names the file and the setting."""
        if self.topology is None:
            return Topology()
        import yaml

        try:
            value = yaml.safe_load(self.topology.read_text())
            for name in ("regions", "task_types"):
                if name in value:
                    value[name] = tuple(value[name])
            return Topology.model_validate(value)
        except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
            raise ConfigError(f"topology {self.topology}: {error}") from None


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process. Raises: ConfigError: names the setting."""
    try:
        found = Settings()
    except ValidationError as error:
        item = error.errors(include_input=False, include_url=False)[0]
        name = "EVERLODE_" + "_".join(str(p) for p in item["loc"]).upper()
        raise ConfigError(f"{name}: {item['msg']}") from None
    check_fence_after(found.fence_after_ms, found.control_election_ms, found.renew_ms)
    return found
