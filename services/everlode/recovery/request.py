"""What is asked for: the recovery request, as its YAML file says, and where it is carried out.

To users the file is a recovery plan. Pure, but for reading the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from everlode.errors import ConfigError
from everlode.events.types import PPM
from everlode.health.weights import GATE
from everlode.settings.plain import from_yaml
from everlode.topics import Topology

Disaster = Literal[
    "task-manager-failure",
    "miner-registry-corruption",
    "validation-system-crash",
    "database-corruption",
    "network-partition",
    "data-center-outage",
    "cyber-attack",
]
HEALTH_GATE_PPM = 800_000
SERVICES_GATE_PPM = int(GATE * PPM)


class RecoveryRequest(BaseModel):
    """What the user asks for. Durations in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    plan_name: str = Field(min_length=1)
    disaster_type: Disaster
    target_region: str
    backup: str = "latest"
    max_acceptable_data_loss_s: int = Field(default=0, ge=0)
    recovery_time_objective_s: int = Field(default=300, ge=1)
    health_gate_ppm: int = Field(default=HEALTH_GATE_PPM, ge=0, le=1_000_000)
    """The least share of active tasks that must be fully recovered, in millionths; 0: no gate."""
    services_gate_ppm: int = Field(default=SERVICES_GATE_PPM, ge=0, lt=1_000_000)
    """What the health of the region's services must be above, in millionths; 0: no gate."""


class Target(NamedTuple):
    """The region that is recovered."""

    region: str
    origin: str
    bootstrap: str
    control_bootstrap: str
    conninfo: str
    topology: Topology
    staging: Path
    copies: Mapping[str, str] = MappingProxyType({})
    """Other regions, whose clusters hold copies of the fact logs → host:port of their brokers."""


WAY_OUT = "mend the file, or leave it out: then the latest backup of --region is used"


def load_request(path: Path) -> RecoveryRequest:
    """Read the file. Raises: ConfigError: names the file and the setting."""
    try:
        return RecoveryRequest.model_validate(from_yaml(path.read_text()))
    except OSError as error:
        raise ConfigError(f"plan {path}: {error.strerror}", hint=WAY_OUT) from None
    except ValidationError as error:
        item = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(p) for p in item["loc"]) or "the whole file"
        raise ConfigError(f"plan {path}: {where}: {item['msg']}", hint=WAY_OUT) from None
    except ValueError:
        raise ConfigError(f"plan {path}: not YAML", hint=WAY_OUT) from None
