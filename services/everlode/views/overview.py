"""The figures of all clusters of a network, which clocks are wrong, which parts did not answer.

Shell: asks the control log who leads, one projection a region, and each region's health topic.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple

from everlode.adapters.kafka_follower import ControlFollower
from everlode.adapters.postgres_read import Generation
from everlode.control.fold import ControlState
from everlode.errors import Unavailable
from everlode.settings.endpoints import Endpoints
from everlode.views.clusters import Asked, cluster
from everlode.views.skews import skews

CONTROL_WAIT_S = 10.0


class Overview(NamedTuple):
    """What was found."""

    clusters: list[dict[str, Any]]
    """Figures by name, a cluster each: by kind in the order asked for, then by region."""
    unreachable: dict[str, str]
    """Region, or control → why it did not answer."""
    clocks: list[dict[str, Any]]
    """Nodes whose clocks are wrong, see `skews.Skew`."""


def overview(
    endpoints: Endpoints, kinds: Sequence[str], regions: Sequence[str], seen_from: str | None = None
) -> Overview:
    """Figures of these kinds of cluster in these regions, all known ones.

    `seen_from`: the region whose projection is asked about all of them; each one's own without it.
    Without the control log the nodes' own heartbeats say who leads.
    """
    control, unreachable = control_seen(endpoints)
    found: list[dict[str, Any]] = []
    clocks: list[dict[str, Any]] = []
    for region in regions:
        try:
            clocks += [skew._asdict() for skew in skews(endpoints, region)]
            found += _of_region(endpoints, region, seen_from or region, kinds, control)
        except Unavailable as error:
            unreachable[region] = error.message
    found.sort(key=lambda figures: kinds.index(figures["kind"]))
    return Overview(found, unreachable, clocks)


def control_seen(endpoints: Endpoints) -> tuple[ControlState | None, dict[str, str]]:
    """The control log as it is now; without an answer None, and why."""
    if endpoints.control_bootstrap is None:
        return None, {}
    follower = ControlFollower(endpoints.control_bootstrap)
    try:
        return follower.start(CONTROL_WAIT_S).state, {}
    except Unavailable as error:
        return None, {"control": error.message}
    finally:
        follower.close()


def _of_region(
    endpoints: Endpoints,
    region: str,
    seen_from: str,
    kinds: Sequence[str],
    control: ControlState | None,
) -> list[dict[str, Any]]:
    with closing(Generation.current(endpoints.regions[seen_from].postgres_conninfo())) as tables:
        origin = endpoints.regions[region].origin
        asked = Asked(tables.query, region, origin, time.time_ns() // 1_000_000, control)
        where = {"seen_from": seen_from, "generation": tables.generation}
        return [cluster(kind, asked) | where for kind in kinds]
