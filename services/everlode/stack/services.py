"""The region's own processes that a stack runs beside its parts: which, and their command lines.

A member is one such process as it is wanted; members that are equal are run alike, so what has to
be started, replaced or ended follows from a comparison. `--services` asks for members by kinds with
their counts for each region: `all`, `none`, `coordinator=1,projector=1`. Pure.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from everlode.errors import ConfigError
from everlode.events.services import BY_NODE, SERVICES

VALIDATORS = ("automatic", "peer-review", "expert")
"""Kinds of validators; a validator's number says which it is, in turn: val-1, val-4 … automatic."""
SHORT = {
    **{service.node: service.short for service in SERVICES},
    "projector": "proj", "detector": "det", "coordinator": "co",
}  # fmt: skip
"""Kind → what stands for it in an id, e.g. eu-co-1."""
ALL = {
    "task-manager": 3, "miner-registry": 2, "validator": 3, "reward-distributor": 2,
    "projector": 1, "detector": 1, "coordinator": 1,
}  # fmt: skip
"""In the order in which a network is built: the four services, what they write, who watches."""
SPECIAL = ("task-manager", "validator")
"""Kinds of nodes that work is chosen for by its type."""
NEEDS_DATABASE = ("projector",)
MOST = 99
"""The highest number of a member."""


class Member(NamedTuple):
    """A process of a region, as it is wanted."""

    region: str
    kind: str
    """One of ALL."""
    number: int
    """From 1, in its kind and region."""
    priority: int = 0
    """Of a node: the higher, the sooner it leads."""
    settings: tuple[tuple[str, int], ...] = ()
    """Settings that it is given, e.g. (beat_ms, 500); the others are its supervisor's."""
    specialties: tuple[str, ...] = ()
    """Types of tasks that it gets before others; of kinds in SPECIAL."""

    @property
    def name(self) -> str:
        """In the stack, e.g. eu/tm-1."""
        return f"{self.region}/{SHORT[self.kind]}-{self.number}"

    @property
    def node_id(self) -> str:
        """In the network, e.g. eu-tm-1."""
        return self.name.replace("/", "-")

    @property
    def validator_kind(self) -> str:
        """Of a validator; empty for others."""
        return VALIDATORS[(self.number - 1) % len(VALIDATORS)] if self.kind == "validator" else ""

    @property
    def made_of(self) -> str:
        """A digest of all of it: what runs with the same one is run alike."""
        return sha256(repr(tuple(self)).encode()).hexdigest()[:16]


class ServiceProcess(NamedTuple):
    """One process of a region."""

    name: str
    """In the stack, e.g. eu/tm-1."""
    kind: str
    region: str
    argv: tuple[str, ...]
    env: dict[str, str]
    needs: tuple[str, ...]
    """Parts of the stack without which it cannot start."""
    made_of: str


def parse_services(text: str) -> dict[str, int]:
    """Kind → count of what `--services` names. Raises: ConfigError: names what is wrong in it."""
    if text in ("all", "none"):
        return dict(ALL) if text == "all" else {}
    chosen: dict[str, int] = {}
    for one in text.split(","):
        kind, _, count = one.strip().partition("=")
        if kind not in ALL or not count.isdigit() or not 1 <= int(count) <= MOST:
            raise ConfigError(
                f"--services {one.strip()}: expected KIND=COUNT, e.g. projector=1",
                hint=f"all, none, or of: {', '.join(ALL)}",
            )
        chosen[kind] = int(count)
    return chosen


def default_priority(kind: str, number: int) -> int:
    """The lower its number, the sooner a node leads; what is no node has none."""
    return max(0, 100 - number) if kind in BY_NODE else 0


def counted(counts: Mapping[str, int], regions: Iterable[str]) -> tuple[Member, ...]:
    """So many members of each kind in each region."""
    return tuple(
        Member(region, kind, n, default_priority(kind, n))
        for region in regions
        for kind, count in counts.items()
        for n in range(1, count + 1)
    )


def as_rows(members: Iterable[Member]) -> list[dict[str, Any]]:
    """Members as JSON keeps them."""
    return [one._asdict() | {"settings": dict(one.settings)} for one in members]


def members_of(found: Any, regions: Iterable[str]) -> tuple[Member, ...]:
    """What was kept by `as_rows`, or counts of kinds that hold for each region.

    Raises: ConfigError: it is neither.
    """
    if isinstance(found, Mapping):
        return counted(found, regions)
    try:
        return tuple(map(_member_of, found))
    except (TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"the members that a stack keeps cannot be read: {error}",
            hint="everlode stack down, then up with --services or --topology",
        ) from None


def _member_of(row: Mapping[str, Any]) -> Member:
    lists = {
        "settings": tuple(sorted(row["settings"].items())),
        "specialties": tuple(row.get("specialties", ())),  # an older build has kept none
    }
    return Member(**{**row, **lists})


def service_processes(members: Iterable[Member], folder: Path) -> tuple[ServiceProcess, ...]:
    """What is run for them by the stack in `folder`."""
    return tuple(_one(member, folder) for member in members)


def words_of(member: Member, folder: Path) -> tuple[str, ...]:
    """What `everlode` is called with to run it for the stack in `folder`."""
    kind, region = member.kind, member.region
    verb: tuple[str, ...] = (kind, "run")
    if kind in BY_NODE:
        verb = ("node", "run", kind, "--priority", str(member.priority))
    if kind == "validator":
        verb += ("--validator-kind", member.validator_kind)
    for name in member.specialties:
        verb += ("--specialty", name)
    where = ("--region", region, "--node-id", member.node_id, "--dir", str(folder))
    return (*verb, *where)


def settings_of(member: Member) -> dict[str, str]:
    """Its own settings, as variables of its environment."""
    return {f"EVERLODE_{name.upper()}": str(value) for name, value in member.settings}


def _one(member: Member, folder: Path) -> ServiceProcess:
    kind, region = member.kind, member.region
    argv = (sys.executable, "-m", "everlode.cli.main", *words_of(member, folder))
    needs = (f"{region}/kafka", *((f"{region}/postgres",) if kind in NEEDS_DATABASE else ()))
    env = settings_of(member)
    return ServiceProcess(member.name, kind, region, argv, env, needs, member.made_of)
