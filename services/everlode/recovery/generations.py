"""Generations of a region's projection: which there are, and dropping one of the past. Shell."""

from __future__ import annotations

import os
import re
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from everlode.adapters.kafka_admin import admin_client, present_topics, state_generations
from everlode.adapters.kafka_topics import delete_topics
from everlode.adapters.postgres_next import NextGeneration
from everlode.adapters.postgres_read import Generation
from everlode.errors import NotFound, Precondition
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.operation import RUN, alone
from everlode.topics.names import state_topic

_SCHEMA = re.compile(r"g(\d+)")


class GenerationThere(NamedTuple):
    """A generation, and what there is of it."""

    generation: int
    current: bool
    tables: bool
    topics: bool


def generations(conninfo: str, bootstrap: str) -> tuple[GenerationThere, ...]:
    """All that PostgreSQL or Kafka have something of, rising. Raises: Unavailable."""
    with closing(Generation.current(conninfo)) as db:
        names = [name for (name,) in db.query("select nspname::text from pg_namespace")]
        current = db.generation
    tables = {int(match[1]) for match in map(_SCHEMA.fullmatch, names) if match}
    topics = set(state_generations(bootstrap))
    return tuple(
        GenerationThere(number, number == current, number in tables, number in topics)
        for number in sorted(tables | topics)
    )


def drop_generation(
    conninfo: str, bootstrap: str, generation: int, work: Path, region: str
) -> None:
    """Drop a generation's tables and state topics; a recovery in `work` that has it is over.

    Killed within, it is done again. Raises: NotFound: there is none. Precondition: it is current.
    Locked: a recovery runs in `work`. Unavailable.
    """
    with alone(work, region):
        found = {g.generation: g for g in generations(conninfo, bootstrap)}.get(generation)
        if found is None:
            raise NotFound(f"{region} has no generation {generation}", hint="everlode recover list")
        if found.current:
            raise Precondition(
                f"generation {generation} of {region} is current: it is what is read",
                hint="recover anew; when that has succeeded this one can be dropped",
            )
        with closing(NextGeneration(conninfo, generation, "recovery")) as db:
            db.drop()
        prefix = state_topic(generation, "")
        topics = present_topics(admin_client(bootstrap), bootstrap)
        delete_topics(bootstrap, [name for name in topics if name.startswith(prefix)])
        _put_aside(work, region, generation)


def _put_aside(work: Path, region: str, generation: int) -> None:
    """The journal of a recovery that is not over, if it fills this generation."""
    path = work / RUN / "journal.jsonl"
    if not path.exists():
        return
    with closing(RecoveryJournal(path)) as journal:
        done = journal.done
    if done.get("generation-chosen", {}).get("generation") == generation:
        os.replace(work / RUN, work / f"dropped-{region}-{done['started']['at_ms']}")
