"""Ids of aggregates: the home region first, then a name: `eu/job-1`.

The home is part of what an aggregate is, so two regions cannot create the same one, and a log's
facts about another home's aggregate are known by their id. It is where the aggregate was created;
it stays when another region serves its scope. What is derived begins with the home of what it is
derived from: `eu/v-job-1-1`, `eu/job-1|eu/miner-1`.

Ids of older logs have no home, and may hold any `/`: they are derived from, and read, as ever.
Pure.
"""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache

from everlode.topics.names import REGION


@lru_cache(maxsize=1024)
def _may_be_a_home(head: str) -> bool:
    """Asked several times a command, and of few texts."""
    return REGION.fullmatch(head) is not None


def home_of_id(aggregate_id: str) -> str:
    """The home that an id begins with; empty when it has none."""
    head, slash, _ = aggregate_id.partition("/")
    return head if slash and _may_be_a_home(head) else ""


def name_of(aggregate_id: str) -> str:
    """An id without its home."""
    home = home_of_id(aggregate_id)
    return aggregate_id[len(home) + 1 :] if home else aggregate_id


def qualified(home: str, name: str) -> str:
    """The id of a name at a home; the name itself without one."""
    return f"{home}/{name}" if home else name


def at_home(home: str, name: str) -> str:
    """The id of a name: at this home, unless it begins with its own."""
    return name if home_of_id(name) else qualified(home, name)


def named_after(source_id: str, before: str, after: str = "") -> str:
    """The id of what is derived: at the source's home, its name between these texts."""
    return qualified(home_of_id(source_id), f"{before}{name_of(source_id)}{after}")


def is_stray(aggregate_id: str, home: str, regions: Container[str]) -> bool:
    """True when an id begins with another of the network's regions than `home`.

    The regions are asked for, since a name of an older log may begin with anything and a `/`.
    """
    head, slash, _ = aggregate_id.partition("/")
    return bool(slash) and head != home and head in regions
