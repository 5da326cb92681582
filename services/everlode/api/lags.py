"""How far a region's projection is behind, by topic, from one small table. Shell: asks it."""

from __future__ import annotations

from everlode.api.network import Network
from everlode.events.stamp import millis_of
from everlode.topics.names import region_of, split_fact_topic

MOST_S = 10 * 366 * 86_400.0


def lag_of_topics(network: Network) -> dict[str, float]:
    """Fact topic → seconds since the moment up to which all its facts are in.

    Of this server's region, which has all regions' topics. Raises: Unavailable; NotFound: no
    projector has worked yet.
    """
    with network.asked() as (asked, _):
        rows = asked.query("select topic, min(stamp) from {g}.positions group by topic")
        return {
            str(topic): min(MOST_S, max(0.0, (asked.now_ms - millis_of(stamp)) / 1000))
            for topic, stamp in rows
        }


def lag_s(network: Network) -> dict[str, float | None]:
    """Region → the greatest lag of its topics, of those with a fact; None: there is none yet."""
    found: dict[str, float | None] = dict.fromkeys(network.endpoints.regions)
    for topic, lag in lag_of_topics(network).items():
        region = region_of(split_fact_topic(topic)[0])
        if lag < MOST_S and region in found:
            found[region] = max(lag, found[region] or 0.0)
    return found
