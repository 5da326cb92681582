"""Topics that a region's database says there were, and that its cluster has not.

Made again without a word they would be empty, and nobody would know that they once were not: a
backup would find no states, a projector no facts. Shell: asks one region.
"""

from __future__ import annotations

from contextlib import closing

from everlode.adapters.kafka_admin import missing_topics
from everlode.adapters.postgres_read import Generation
from everlode.errors import IntegrityError, NotFound
from everlode.topics import Topology, state_topics


def lost_topics(region: str, topology: Topology, bootstrap: str, conninfo: str) -> list[str]:
    """Fact topics with a position in the current generation, and its state topics, by name.

    None of a database that has no position yet. Raises: Unavailable.
    """
    with closing(Generation.current(conninfo)) as db:
        try:
            rows = db.query("select distinct topic from {g}.positions where seq > 0")
        except NotFound:
            return []
    if not rows:
        return []
    states = [spec.name for spec in state_topics(topology, region, db.generation)]
    return missing_topics(bootstrap, [*(topic for (topic,) in rows), *states])


def require_topics(region: str, topology: Topology, bootstrap: str, conninfo: str) -> None:
    """Go on when none is lost. Raises: IntegrityError: names them. Unavailable."""
    if lost := lost_topics(region, topology, bootstrap, conninfo):
        raise IntegrityError(
            f"{region}: topic {lost[0]} is not there, and the database has read or written it"
            f" ({len(lost)} such: {', '.join(lost)})",
            code="topic_lost",
            hint="bring the broker's data back; or everlode stack up --remake-topics makes them"
            " again, empty: state topics are filled by everlode recover, facts are lost",
        )
