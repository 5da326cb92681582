"""What `everlode stack up` makes a stack of: a topology file, options, what there was. Shell."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from everlode.errors import ConfigError
from everlode.settings.environment import settings
from everlode.settings.topology import agreed, load_topology
from everlode.stack.native.state import load_options
from everlode.stack.native.supervisor import save_options, saved_topology
from everlode.stack.services import as_rows, parse_services
from everlode.topics import Topology
from everlode.topics.names import check_regions
from everlode.topology.check import read
from everlode.topology.model import Network
from everlode.topology.plan import Running, plan


class New(NamedTuple):
    """What the options say; empty or None: nothing."""

    regions: str
    mirrors: bool | None
    s3: str
    services: str
    file: Path | None


def remember(folder: Path, new: New) -> None:
    """Write down what the stack is; what was not asked for stays as it was. Raises: ConfigError."""
    known = load_options(folder)
    if new.s3 not in ("", "auto", "minio", "rclone", "none"):
        raise ConfigError(f"--s3 {new.s3}: expected auto, minio, rclone or none")
    wanted = None if new.file is None else _wanted(folder, new, new.file)
    topology = _topology(folder, new.regions) if wanted is None else wanted.topology
    mirrors = new.mirrors if wanted is None else wanted.mirrors
    services: Any = parse_services(new.services) if new.services else known.get("services", {})
    if wanted is not None and not new.services:
        services = as_rows(sorted(wanted.members))
    options = {
        "mirrors": known.get("mirrors", True) if mirrors is None else mirrors,
        "control_nodes": known.get("control_nodes", topology.control_replication),
        "services": services,
        "s3": (None if new.s3 == "none" else new.s3) if new.s3 else known.get("s3", "auto"),
    }
    try:
        save_options(folder, topology, **options)
    except OSError as exc:
        raise ConfigError(f"{folder}: {exc.strerror}", hint="another folder with --dir") from exc


def _wanted(folder: Path, new: New, file: Path) -> Network:
    """What the file wants, as the whole of a new stack, or of one that it does not contradict."""
    wanted = read(file)
    if new.regions or new.mirrors is not None or new.services not in ("", "none"):
        raise ConfigError(
            f"--topology {file}: the file says which regions, mirrors and services there are",
            hint="without --regions, --mirrors and --services, or --services none",
        )
    agreed(wanted.topology, settings().topology)
    known = saved_topology(folder)
    if known is None:
        return wanted
    now = Network(known, bool(load_options(folder).get("mirrors", True)), frozenset())
    refused = plan(wanted, Running(now)).refused
    if refused:
        raise ConfigError("; ".join(refused), code="other_topology", hint="another folder: --dir")
    return wanted._replace(topology=known)


def _topology(folder: Path, regions: str) -> Topology:
    """What the stack in `folder` has; of a new one what EVERLODE_TOPOLOGY and --regions say."""
    cfg, known = settings(), saved_topology(folder)
    found = cfg.new_topology() if known is None else agreed(known, cfg.topology)
    if not regions:
        return found
    wanted = tuple(name.strip() for name in regions.split(","))
    check_regions(wanted)
    if known is None and not (cfg.topology and "regions" in found.model_fields_set):
        return load_topology(cfg.topology, regions=wanted)
    if wanted != found.regions:
        owner = cfg.topology if known is None else f"the stack in {folder}"
        raise ConfigError(
            f"--regions {regions}: {owner} has {', '.join(found.regions)}",
            hint="another folder with --dir, or without --regions",
        )
    return found


def ports_of(given: list[str]) -> dict[str, int]:
    """Name → port of what `--port` says. Raises: ConfigError."""
    chosen: dict[str, int] = {}
    for text in given:
        name, _, number = text.partition("=")
        if not number.isdigit() or not 1 <= int(number) <= 65_535:
            raise ConfigError(f"--port {text}: expected NAME=PORT, e.g. eu/kafka=9092")
        chosen[name] = int(number)
    return chosen
