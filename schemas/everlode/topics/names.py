"""Names of topics. Pure."""

from __future__ import annotations

CONTROL_TOPIC = "control"
CONTROL_CLUSTER = "control"


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


def schema_of(generation: int) -> str:
    """Name of a generation's schema."""
    return f"g{int(generation)}"
