"""The topology file: regions, task types and replication of a network, as JSON or YAML. Shell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from everlode.errors import ConfigError
from everlode.topics import Topology

SETTING = "EVERLODE_TOPOLOGY"


def load_topology(path: Path | None) -> Topology:
    """The topology in `path`; the default three regions without one.

    Raises: ConfigError: names the setting, the file and the field.
    """
    if path is None:
        return Topology()
    try:
        found = yaml.safe_load(path.read_text())
    except OSError as error:
        raise _wrong(path, error.strerror or str(error)) from None
    except (ValueError, yaml.YAMLError) as error:
        raise _wrong(path, " ".join(str(error).split())) from None
    if not isinstance(found, dict):
        raise _wrong(path, "a mapping of fields is expected")
    try:
        return Topology.model_validate({name: _immutable(value) for name, value in found.items()})
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        field = ".".join(map(str, item["loc"]))
        raise _wrong(path, f"{field}: {item['msg']}" if field else item["msg"]) from None


def _immutable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _wrong(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{SETTING}={path}: {why}", hint="an example: regions: [eu, us]; all else has a default"
    )
