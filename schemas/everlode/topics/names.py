"""Names of regions and topics. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from everlode.errors import ConfigError

CONTROL_TOPIC = "control"
CONTROL_SNAPSHOT_TOPIC = "control.snapshot"
CONTROL_CLUSTER = "control"
REGION = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
"""No dot or underscore: Kafka takes a.b and a_b for one name in its metrics. No upper case: a name
is a folder too, and some file systems hold EU and eu for one."""
LONGEST_REGION = 32
"""Characters; with what topics add, names stay far below Kafka's 249."""
MOST_REGIONS = 16
"""Each region copies all others: the flows grow with the square, and each has a process."""
TAKEN = frozenset({CONTROL_CLUSTER, "state", "dlt", "s3", "logs", "secrets", "keys"})
"""Names of clusters, first parts of topics, and folders of a stack, which no region may have."""


def check_regions(regions: tuple[str, ...]) -> None:
    """Every name of a region enters here. Raises: ConfigError: names it, and what was expected."""
    for region in regions:
        if region in TAKEN:
            raise ConfigError(f"region {region!r}: the name is taken", hint=_EXPECTED)
        if not REGION.fullmatch(region) or len(region) > LONGEST_REGION:
            shown = region if len(region) <= LONGEST_REGION else f"{region[:LONGEST_REGION]}…"
            raise ConfigError(f"region {shown!r}: not a name of a region", hint=_EXPECTED)
    if len(set(regions)) != len(regions) or not regions:
        raise ConfigError("regions: name each region once, at least one", hint=_EXPECTED)
    if len(regions) > MOST_REGIONS:
        raise ConfigError(
            f"regions: there are {len(regions)}, at most {MOST_REGIONS} can copy one another",
            hint="fewer regions; a network has one for each place that may fail as a whole",
        )


_EXPECTED = (
    f"1 to {LONGEST_REGION} small letters, digits and single hyphens, a letter first, e.g. eu or "
    f"eu-west-1; not {', '.join(sorted(TAKEN))}"
)


def fact_topic(origin: str, component: str) -> str:
    """Facts or signals of an origin, e.g. eu.1.tasks."""
    return f"{origin}.{component}"


def command_topic(region: str, component: str) -> str:
    """Commands for a component of a region, e.g. eu.commands.tasks."""
    return f"{region}.commands.{component}"


def reply_topic(region: str) -> str:
    """Answers of a region's primaries."""
    return f"{region}.replies"


def state_topic(generation: int, component: str) -> str:
    """Compacted states of a generation, e.g. state.g1.tasks."""
    return f"state.g{generation}.{component}"


def snapshot_topic(origin: str, component: str) -> str:
    """Snapshot of a fact topic, in its home region, e.g. snapshot.eu.1.tasks."""
    return f"snapshot.{origin}.{component}"


def archive_topic(origin: str, component: str) -> str:
    """Aggregates of a fact topic that have ended, in its home region, e.g. archive.eu.1.tasks."""
    return f"archive.{origin}.{component}"


def work_topic(origin: str) -> str:
    """What each miner has of an origin's tasks, in its home region, e.g. work.eu.1."""
    return f"work.{origin}"


def dead_letter_topic(consumer: str, topic: str) -> str:
    """Dead letters of a consumer for one topic."""
    return f"dlt.{consumer}.{topic}"


def split_fact_topic(topic: str) -> tuple[str, str]:
    """Origin and component of a fact or signal topic: eu.1.tasks → (eu.1, tasks)."""
    origin, _, component = topic.rpartition(".")
    return origin, component


def region_of(origin: str) -> str:
    """Region of an origin: eu.1 → eu."""
    return origin.rpartition(".")[0]


def regions_of(topics: Iterable[str]) -> frozenset[str]:
    """Regions of fact topics."""
    return frozenset(region_of(split_fact_topic(topic)[0]) for topic in topics)


def schema_of(generation: int) -> str:
    """Name of a generation's schema."""
    return f"g{int(generation)}"
