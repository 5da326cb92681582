"""The region's own processes that a stack runs beside its parts: which, and their command lines.

`all`, `none`, or kinds with their counts for each region: `coordinator=1,projector=1`. Pure.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from everlode.errors import ConfigError
from everlode.events.services import SERVICES

VALIDATORS = ("automatic", "peer-review", "expert")
SHORT = {
    "coordinator": "co", "detector": "det", "projector": "proj",
    **{service.node: service.short for service in SERVICES},
}  # fmt: skip
"""Kind → what stands for it in an id, e.g. eu-co-1."""
ALL = {
    "coordinator": 1, "detector": 1, "projector": 1, "task-manager": 3, "miner-registry": 2,
    "validator": 3, "reward-distributor": 2,
}  # fmt: skip
NEEDS_DATABASE = ("projector",)


class ServiceProcess(NamedTuple):
    """One process of a region."""

    name: str
    """In the stack, e.g. eu/tm-1."""
    kind: str
    region: str
    argv: tuple[str, ...]
    needs: tuple[str, ...]
    """Parts of the stack without which it cannot start."""


def parse_services(text: str) -> dict[str, int]:
    """Kind → count of what `--services` names. Raises: ConfigError: names what is wrong in it."""
    if text in ("all", "none"):
        return dict(ALL) if text == "all" else {}
    chosen: dict[str, int] = {}
    for one in text.split(","):
        kind, _, count = one.strip().partition("=")
        if kind not in ALL or not count.isdigit() or not 1 <= int(count) <= 99:
            raise ConfigError(
                f"--services {one.strip()}: expected KIND=COUNT, e.g. projector=1",
                hint=f"all, none, or of: {', '.join(ALL)}",
            )
        chosen[kind] = int(count)
    return chosen


def service_processes(
    counts: Mapping[str, int], regions: tuple[str, ...], folder: Path
) -> tuple[ServiceProcess, ...]:
    """What is run; the lower its number, the sooner a node leads."""
    return tuple(
        _one(region, kind, n, folder)
        for region in regions
        for kind, count in counts.items()
        for n in range(1, count + 1)
    )


def _one(region: str, kind: str, n: int, folder: Path) -> ServiceProcess:
    short = f"{SHORT[kind]}-{n}"
    verb = (kind, "run") if kind in ("coordinator", "detector", "projector") else ("node", "run")
    more: tuple[str, ...] = ()
    if verb[0] == "node":
        more = (kind, "--priority", str(100 - n))
    if kind == "validator":
        more += ("--validator-kind", VALIDATORS[(n - 1) % len(VALIDATORS)])
    where = ("--region", region, "--node-id", f"{region}-{short}", "--dir", str(folder))
    argv = (sys.executable, "-m", "everlode.cli.main", *verb, *more, *where)
    needs = (f"{region}/kafka", *((f"{region}/postgres",) if kind in NEEDS_DATABASE else ()))
    return ServiceProcess(f"{region}/{short}", kind, region, argv, needs)
