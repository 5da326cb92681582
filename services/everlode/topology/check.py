"""A topology file, checked: what it wants, or everything that is wrong with it, line by line.

    text ─► YAML with lines ─► model: keys, types, bounds ─► rules between keys ─► Network

A key that nothing obeys is refused: one of the published design's by why, any other one with the
nearest that there is. Pure, but for `read`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from everlode.errors import ConfigError
from everlode.topics.names import check_regions
from everlode.topology.model import Network, TopologyFile, network_of
from everlode.topology.reference import ANY, keys
from everlode.topology.rules import broken
from everlode.topology.source import Finding, Source, Where, source_of

MOST_BYTES = 256 * 1024
NOT_OBEYED = {
    "specialities": "the key is specialties, of task managers, automatic validators and experts",
    "max_concurrent_tasks": "one number holds for all nodes: policies.balancing.max_concurrent",
    "endpoint": "a node listens where its machine lets it, and says where in each heartbeat",
    "endpoints": "a node listens where its machine lets it, and says where in each heartbeat",
    "strategy": "facts are copied asynchronously, whatever is asked for",
    "consistency": "reads ask for a position, not for a level",
    "min_replicas": "an answer is given after the commit in the home region",
    "algorithm": "tasks go to the less loaded of two, always",
    "weights": "candidates are ordered by status, priority and load, always",
    "phi": "the level at which silence convicts is a constant of the detector",
    "cooldown_s": "a loss waits for none; an unsteady primary's is 30 s, doubled each time, always",
    "max_lag": "candidates for promotion are not compared by lag",
    "sites": "sites are not named: control_replication is their number",
    "control_nodes": "there is one a site: control_replication",
}
"""Keys that the published design has, or an operator may expect, and why there are none."""


class Checked(NamedTuple):
    """What came of a file."""

    network: Network | None
    """None when anything is wrong."""
    findings: tuple[Finding, ...]
    """By line."""


def check(text: str) -> Checked:
    """What a file's text wants, or everything that is wrong with it."""
    source = source_of(text)
    findings = list(source.findings)
    file: TopologyFile | None = None
    if not findings:
        if isinstance(source.data, dict):
            file = _modelled(source, findings)
        else:
            findings.append(Finding(1, "yaml", "a mapping of keys is expected: regions: [eu, us]"))
    if file is not None:
        found = broken(file)
        findings += [
            Finding(source.line(b.where), b.rule, f"{_dotted(b.where)}: {b.message}") for b in found
        ]
    ordered = tuple(sorted(dict.fromkeys(findings)))
    return Checked(None if file is None or ordered else network_of(file), ordered)


def read(path: Path) -> Network:
    """What the file wants. Raises: ConfigError: with the first finding, and how many more."""
    found = check(text_of(path))
    if found.network is None:
        first, *rest = found.findings
        more = f", and {len(rest)} more" if rest else ""
        raise ConfigError(
            f"{path}:{first.line}: {first.rule}: {first.message}{more}",
            code="bad_topology", hint=f"everlode topology check {path}",
        )  # fmt: skip
    return found.network


def text_of(path: Path) -> str:
    """Raises: ConfigError: it cannot be read."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path}: more than {MOST_BYTES} bytes", hint="this is no topology")
        return path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="a YAML file is expected") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: this is no text", hint="a YAML file is expected") from None


def _modelled(source: Source, findings: list[Finding]) -> TopologyFile | None:
    _name_regions(source, findings)
    try:
        return TopologyFile.model_validate_json(json.dumps(source.data, default=str))
    except ValidationError as error:
        named = bool(findings)  # then what is wrong with the whole is known, by its line
        findings += [
            _finding(source, one)
            for one in error.errors(include_url=False)
            if one["loc"] or not named
        ]
    return None


def _name_regions(source: Source, findings: list[Finding]) -> None:
    """The model says it of all regions at once, and so without a line."""
    named = source.data.get("regions")
    seen: list[str] = []
    for index, region in enumerate(named if isinstance(named, list) else ()):
        line = source.line(("regions", str(index)))
        if not isinstance(region, str):
            continue
        try:
            check_regions((region,))
        except ConfigError as error:
            findings.append(Finding(line, "region", f"{error.message}; {error.hint}"))
        if region in seen:
            findings.append(Finding(line, "region", f"region {region}: name each region once"))
        seen.append(region)


def _finding(source: Source, error: Mapping[str, Any]) -> Finding:
    where = tuple(str(part) for part in error["loc"] if part != "[key]")
    message, rule = error["msg"], error["type"].replace("_", "-")
    if error["type"] == "extra_forbidden":
        return _unknown(source, where)
    if error["type"] == "missing":
        return Finding(source.line(where), "missing", f"{_dotted(where)} must be given")
    if error["type"] == "value_error":
        message = message.removeprefix("Value error, ")
        head = message.partition(":")[0]
        if not where and head in TopologyFile.model_fields:  # the model says it of the whole
            where, message = (head,), message.removeprefix(head).lstrip(": ")
        return Finding(source.line(where), "value", f"{_dotted(where)}: {message}")
    message = message.replace("Input should be", "expected").replace("a valid i", "an i")
    message = message.replace("a valid ", "a ")
    return Finding(
        source.line(where), "range" if "than" in rule else "type",
        f"{_dotted(where)}: {message}, not {_shown(error['input'])}",
    )  # fmt: skip


def _unknown(source: Source, where: Where) -> Finding:
    name, line = where[-1], source.line(where)
    if name in NOT_OBEYED:
        why = f"{_dotted(where)}: nothing in this build obeys it: {NOT_OBEYED[name]}"
        return Finding(line, "not-obeyed", why)
    known = [key.path for key in keys()]
    elsewhere = [path for path in known if path[-1] == name]
    if elsewhere:
        why = f"{_dotted(where)}: it belongs in {_dotted(elsewhere[0][:-1]) or 'the whole'}"
        return Finding(line, "unknown-key", why)
    beside = [path[-1] for path in known if _same(path[:-1], where[:-1])]
    (nearest,) = get_close_matches(name, beside, 1, cutoff=0.0) or ("",)
    why = f"{_dotted(where)}: there is no such key; the nearest is {nearest}"
    return Finding(line, "unknown-key", why)


def _same(path: Where, where: Where) -> bool:
    """Whether a path of the reference is that of a key; a region is any word."""
    return len(path) == len(where) and all(a in (ANY, b) for a, b in zip(path, where, strict=True))


def _dotted(where: Where) -> str:
    return ".".join(where)


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
