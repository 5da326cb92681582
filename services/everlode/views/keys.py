"""Keys that a projection has stopped at, and what it found wrong besides. Shell: asks one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from everlode.avro.codec import Codec
from everlode.errors import ContractError
from everlode.events.catalogue import STATE_COMPONENTS
from everlode.projection.tables import FACTS_OF
from everlode.topics.names import split_fact_topic

Query = Callable[..., list[tuple[Any, ...]]]
_PROBLEMS = (
    "select kind, topic, part, at_offset, key, event_id, expected, found, noted_at"
    " from {g}.problems order by noted_at, topic, part, at_offset"
)


class Noted(NamedTuple):
    """Something that a projection has noted of a fact."""

    kind: str
    """seq_gap, version_gap, conflict, fenced, foreign_home, above_vector, folded_above,
    fence_known, unlawful, unapplied, unknown_epoch."""
    stopped: bool
    """Whether the key still waits; of a gap in `seq`, which has no key, whether facts are lost."""
    key: str
    version: int | None
    """That the key is at; None: it has no row."""
    waiting: int
    """Facts of the key that wait behind it."""
    topic: str
    partition: int
    offset: int
    event_id: str
    expected: int
    found: int
    noted_at: datetime


def problems(query: Query) -> list[Noted]:
    """All that a generation has noted, in the order in which it did. Raises: Unavailable."""
    rows = query(_PROBLEMS)
    versions = _versions(query, {(row[1], row[4]) for row in rows})
    waiting, parked = _waiting(query)
    found = []
    for kind, topic, part, offset, key, event_id, expected, seen, noted_at in rows:
        version = versions.get((topic, key))
        stopped = _stopped(kind, version, expected, seen, (topic, part, offset) in parked)
        facts = waiting[topic, key] if stopped else 0
        place = topic, part, offset, event_id, expected, seen, noted_at
        found.append(Noted(kind, stopped, key, version, facts, *place))
    return found


def _stopped(kind: str, version: int | None, expected: int, found: int, parked: bool) -> bool:
    """Whether what was noted of a key still holds it, by the version that it is at. Pure."""
    match kind:
        case "seq_gap":
            return True
        case "version_gap" | "unapplied":
            return (version or 0) < expected
        case "unlawful":
            return (version or 0) < found
        case "unknown_epoch":
            return parked
        case _:
            return False


def _versions(query: Query, named: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """(topic, key) → the version of its row."""
    found: dict[tuple[str, str], int] = {}
    topics: dict[str, list[str]] = {}
    for topic, key in named:
        topics.setdefault(topic, []).append(key)
    for topic, keys in topics.items():
        component = split_fact_topic(topic)[1]
        for table in STATE_COMPONENTS:
            if FACTS_OF.get(table, table) == component:
                rows = query(f"select key, version from {{g}}.{table} where key = any(%s)", (keys,))
                found.update({(topic, key): version for key, version in rows})
    return found


def _waiting(query: Query) -> tuple[Counter[tuple[str, str]], set[tuple[str, int, int]]]:
    """How many facts of each (topic, key) wait, and where each stands."""
    codec, counts = Codec(), Counter[tuple[str, str]]()
    places = set()
    for topic, part, offset, value in query("select topic, part, at_offset, value from {g}.parked"):
        places.add((topic, part, offset))
        try:
            counts[topic, codec.fact_head(bytes(value)).aggregate_id] += 1
        except ContractError:
            continue  # of a writer whose schema this build has not: its place is known all the same
    return counts, places


def wanted(found: Sequence[Noted], *, everything: bool) -> list[Noted]:
    """Those that hold a key, and conflicts; with `everything` those without effect too. Pure."""
    return [f for f in found if everything or f.stopped or f.kind == "conflict"]
