"""The topology file: regions, task types and replication of a network, as JSON or YAML.

A new stack is made from it; where it is given to a stack that there is, both must agree. Shell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from everlode.errors import ConfigError
from everlode.settings.plain import from_yaml
from everlode.topics import Topology

SETTING = "EVERLODE_TOPOLOGY"
BESIDE = ("clusters", "policies")
"""What a topology file says beside the topology; `everlode topology` checks and applies it."""


def load_topology(path: Path | None, **more: Any) -> Topology:
    """The topology in `path` and `more` of its fields; the default three regions without either.

    Raises: ConfigError: names the setting, the file and the field.
    """
    if path is None:
        return Topology(**more)
    try:
        found = from_yaml(path.read_text())
    except OSError as error:
        raise _wrong(path, error.strerror or str(error)) from None
    except ValueError as error:
        raise _wrong(path, str(error)) from None
    if not isinstance(found, dict):
        raise _wrong(path, "a mapping of fields is expected")
    try:
        fields = {n: _immutable(value) for n, value in found.items() if n not in BESIDE}
        return Topology.model_validate(fields | more)
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        field = ".".join(map(str, item["loc"]))
        raise _wrong(path, f"{field}: {item['msg']}" if field else item["msg"]) from None


def agreed(stack: Topology, path: Path | None) -> Topology:
    """The topology of a stack, which the file in `path` may name again, but not contradict.

    Raises: ConfigError: names the file, the field and both values.
    """
    asked = stack if path is None else load_topology(path)
    for name in asked.model_fields_set:
        wanted, found = getattr(asked, name), getattr(stack, name)
        if path is not None and wanted != found:
            raise ConfigError(
                f"{SETTING}={path}: {name}: {_text(wanted)}; the stack has {_text(found)}",
                code="other_topology",
                hint=f"unset {SETTING}: a stack knows its own topology; another stack with --dir",
            )
    return stack


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _immutable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _wrong(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{SETTING}={path}: {why}", hint="an example: regions: [eu, us]; all else has a default"
    )
