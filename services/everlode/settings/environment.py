"""The settings of a process: every `EVERLODE_*` variable there is, checked when read, then frozen.

This is the one list: a variable that is not on it is refused by name, so that a setting that is
spelt wrongly never passes for its default. Shell: reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from everlode.adapters.clock import Clock, PacedClock, WallClock
from everlode.control.lease import check_fence_after
from everlode.detection.regions import Patience
from everlode.errors import ConfigError
from everlode.settings.endpoints import Endpoints
from everlode.settings.topology import agreed, load_topology
from everlode.telemetry.scraped import Scraping
from everlode.telemetry.sink import Form
from everlode.topics import Topology

PREFIX = "EVERLODE_"


class Settings(BaseSettings):
    """All settings; durations in milliseconds unless their name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid",
        use_attribute_docstrings=True,
    )  # fmt: skip

    # -- where things are
    stack_dir: Path | None = None
    """Folder of the stack, where --dir is not given."""
    keys_dir: Path | None = None
    """Folder of the keys that open backups; keys in the stack's folder without it."""
    bucket: str | None = None
    """Bucket of backups; the stack's first without it."""
    backup_max_age_s: int = Field(default=900, ge=1)
    """A backup whose cut is further behind the logs or the clock ends with 20."""
    trace: Path | None = None
    """Folder of the demo's trace; a generated workload without it."""
    payout_dir: Path = Path("payouts")
    """Folder of the journal that stands for the payout system, seen from the stack's folder."""

    kafka_login: Path | None = None
    """JSON file that says who this process is to Kafka; plain text, for loopback, without it."""

    # -- of the network and its processes
    topology: Path | None = None
    """JSON or YAML file of a new stack's topology, three regions without it; a stack that there is
    knows its own, and a file that contradicts it is an error."""
    clock_file: Path | None = None
    """Knots of a paced event clock; the wall clock without it."""
    clock_wrong_file: Path | None = None
    """For drills: file with the milliseconds by which this process's wall clock is wrong."""
    beat_ms: int = Field(default=1000, ge=100)
    """A node sends a heartbeat so often."""
    renew_ms: int = Field(default=2000, ge=100)
    """A primary renews its lease so often."""
    fence_after_ms: int = Field(default=12_000, ge=1000)
    """A primary whose lease was not renewed for so long leads no more."""
    control_election_ms: int = Field(default=5000, ge=0)
    """Measured pause of the control log when its leader is killed."""
    link_stale_ms: int = Field(default=5000, ge=2000)
    """A link between regions over which nothing comes for so long is stale."""
    region_suspected_ms: int = Field(default=10_000, ge=2000)
    """A region of which nothing comes for so long is suspected; lost, once most sites say so."""
    takeover: bool = False
    """A region that most sites have lost is fenced, and another one takes its scopes. All processes
    must be of one build, and a region that was fenced does not come back by itself."""
    lease_s: int = Field(default=3600, ge=1)
    """Lease of an assignment, in seconds of event time."""
    max_concurrent: int = Field(default=20_000, ge=1)
    """Tasks that one task manager node manages at once."""
    judge_s: int = Field(default=10, ge=1)
    """A validator's judge that has not come back from a solution for so long is left alone with it:
    others judge that, and the node goes on."""
    ended_at_hand: int = Field(default=10_000, ge=1)
    """Ended aggregates that a node has in memory, of those that were asked for last, and as many
    solutions; others are read from the archive again."""
    answers_at_hand: int = Field(default=50_000, ge=1000, le=50_000)
    """Commands whose answers a node has in memory: a repeat that is older is decided anew. No more
    than a snapshot has."""
    stall_s: int = Field(default=120, ge=5)
    """A projector that stands still for so long, while its logs go on, ends and names the place."""
    log: Form = "auto"
    """Form of logs: text, json, or auto: text for people at a terminal, JSON elsewhere."""
    metrics_port: int | None = Field(default=None, ge=1, le=65_535)
    """Port of the loopback where a process answers Prometheus at /metrics."""
    metrics_dir: Path | None = None
    """Folder where each process says to Prometheus (file_sd) where it answers: at any free port of
    the loopback without EVERLODE_METRICS_PORT. Without either it answers nowhere."""
    otlp: str | None = Field(default=None, pattern=r"^https?://[^\s/]+(/\S*)?$")
    """URL of an OpenTelemetry collector that gets this process's part of traces, if any does."""

    log_mib: int = Field(default=16, ge=1)
    """MiB of one log of a detached stack's processes; as many are kept of what was before."""

    operator: str | None = None
    """Who asks, in what operators ask for; the name of the system's user without it."""

    # -- of the native stack's parts
    cache: Path | None = None
    """Folder of fetched and built parts; everlode in the user's cache folder without it."""
    maven: str | None = None
    """Base URL of the Maven repository that Kafka's jars come from; Maven Central without it."""
    s3: Literal["auto", "minio", "rclone"] = "auto"
    """S3 server of new stacks; auto: MinIO where it can be had, else rclone."""
    require_minio: bool = False
    """An S3 server other than MinIO is an error, unless a caller names it."""

    def clock(self) -> Clock:
        """The clock of a process. Raises: ConfigError."""
        if self.clock_file and self.clock_wrong_file:
            raise ConfigError(
                "EVERLODE_CLOCK_FILE forbids EVERLODE_CLOCK_WRONG_FILE", hint="unset one of the two"
            )
        if self.clock_file:
            return PacedClock.load(self.clock_file)
        return WallClock(self.clock_wrong_file)

    def figures(self) -> Scraping:
        """Where a process's figures are to be had."""
        folder = self.metrics_dir and self.metrics_dir.expanduser().absolute()
        return Scraping(self.metrics_port, folder)

    def patience(self) -> Patience:
        """How long another region may be silent."""
        return Patience(self.link_stale_ms, self.region_suspected_ms)

    def payouts(self, stack: Path) -> Path:
        """Folder of the payout journal of the stack in `stack`, wherever the process was started.

        Two nodes that did not find the same journal would pay twice.
        """
        return stack.absolute() / self.payout_dir.expanduser()

    def new_topology(self) -> Topology:
        """The topology of a new stack. Raises: ConfigError: names setting, file and field."""
        return load_topology(self.topology)

    def topology_of(self, endpoints: Endpoints) -> Topology:
        """The stack's topology. Raises: ConfigError: EVERLODE_TOPOLOGY contradicts it."""
        return agreed(endpoints.topology, self.topology)


VARIABLES = tuple(PREFIX + name.upper() for name in Settings.model_fields)
"""All variables that are read."""
MEND = "correct or unset it; then everlode settings lists all of them"


def settings() -> Settings:
    """The settings as the environment has them now; a process reads them once, at its start.

    Raises: ConfigError: names the variable that is unknown, wrong or contradicts another.
    """
    check_known(os.environ)
    try:
        found = Settings()
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        name = PREFIX + "_".join(map(str, item["loc"])).upper()
        raise ConfigError(f"{name}={item['input']}: {item['msg']}", hint=MEND) from None
    check_fence_after(found.fence_after_ms, found.control_election_ms, found.renew_ms)
    found.patience().check()
    if found.require_minio and found.s3 == "rclone":
        raise ConfigError(
            "EVERLODE_REQUIRE_MINIO forbids EVERLODE_S3=rclone", hint="unset one of the two"
        )
    return found


def check_known(names: Iterable[str]) -> None:
    """Refuse a name with our prefix that is none of ours. Raises: ConfigError: names the nearest.

    Pure.
    """
    for name in sorted(names):
        if name.upper().startswith(PREFIX) and name.upper() not in VARIABLES:
            (nearest,) = get_close_matches(name.upper(), VARIABLES, 1, cutoff=0.0)
            raise ConfigError(
                f"{name}: there is no such setting; the nearest is {nearest}",
                code="unknown_setting", hint=MEND,
            )  # fmt: skip


class Shown(NamedTuple):
    """A setting as operators are shown it."""

    name: str
    """The variable; topology.FIELD for what the topology file may set."""
    value: str | None
    """None: not set, and without a default."""
    source: Literal["environment", "stack", "file", "default"]
    meaning: str


def shown(found: Settings, stack: Endpoints | None = None) -> list[Shown]:
    """All settings, then the fields of the topology, the stack's or a new one's, in model order.

    Raises: ConfigError: the topology file is wrong, or contradicts the stack.
    """
    rows = [
        Shown(
            PREFIX + name.upper(), _value(getattr(found, name)),
            "environment" if name in found.model_fields_set else "default",
            _one_line(field.description),
        )
        for name, field in Settings.model_fields.items()
    ]  # fmt: skip
    network = found.topology_of(stack) if stack else found.new_topology()
    given = found.topology is not None
    rows += [
        Shown(
            f"topology.{name}", _value(getattr(network, name)),
            "stack" if stack else "file" if given and name in network.model_fields_set
            else "default",
            _one_line(field.description),
        )
        for name, field in Topology.model_fields.items()
    ]  # fmt: skip
    return rows


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _value(value: Any) -> str | None:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return None if value is None else hide_login(str(value))


def hide_login(text: str) -> str:
    """A URL without its name and password; any other text as it is. Pure."""
    if "://" not in text:
        return text
    parts = urlsplit(text)
    _, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"***@{host}")) if at else text
