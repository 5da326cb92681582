"""The plan of a recovery: what the user wants, and what would be done. Pure, but for its file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from everlode.backup.manifest import Manifest
from everlode.errors import ConfigError
from everlode.events.services import STATES_OF
from everlode.events.types import AIComponent

Disaster = Literal[
    "task-manager-failure",
    "miner-registry-corruption",
    "validation-system-crash",
    "database-corruption",
    "network-partition",
    "data-center-outage",
    "cyber-attack",
]
PRIORITIES: tuple[AIComponent, ...] = get_args(AIComponent)
HEALTH_GATE_PPM = 800_000


class RecoveryPlan(BaseModel):
    """What the user asks for. Durations in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    plan_name: str = Field(min_length=1)
    disaster_type: Disaster
    target_region: str
    backup: str = "latest"
    max_acceptable_data_loss_s: int = Field(default=0, ge=0)
    recovery_time_objective_s: int = Field(default=300, ge=1)
    health_gate_ppm: int = Field(default=HEALTH_GATE_PPM, ge=0, le=1_000_000)


class Stage(NamedTuple):
    """One component's stage."""

    component: AIComponent
    states: str
    records: int
    bytes: int


WAY_OUT = "mend the file, or leave it out: then the latest backup of --region is used"


def load_plan(path: Path) -> RecoveryPlan:
    """Read a plan. Raises: ConfigError: names the file and the setting."""
    try:
        return RecoveryPlan.model_validate(yaml.safe_load(path.read_text()))
    except OSError as error:
        raise ConfigError(f"plan {path}: {error.strerror}", hint=WAY_OUT) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigError(f"plan {path}: not YAML", hint=WAY_OUT) from None
    except ValidationError as error:
        item = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(p) for p in item["loc"]) or "the whole file"
        raise ConfigError(f"plan {path}: {where}: {item['msg']}", hint=WAY_OUT) from None


def stages(manifest: Manifest) -> tuple[Stage, ...]:
    """Stages in order of priority, with what each restores from the backup."""
    found = []
    for component in PRIORITIES:
        states = STATES_OF[component]
        entries = [o for o in manifest.objects if o.component == states]
        found.append(
            Stage(
                component,
                states,
                sum(o.records for o in entries),
                sum(o.cipher_bytes for o in entries),
            )
        )
    return tuple(found)
