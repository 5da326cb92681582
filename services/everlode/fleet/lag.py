"""How far each region's projection is behind, sampled while a network runs. Shell: PostgreSQL."""

from __future__ import annotations

import time
from contextlib import closing

from everlode.adapters.postgres_read import Generation
from everlode.errors import NotFound, Unavailable
from everlode.events.stamp import millis_of
from everlode.settings.endpoints import Endpoints

_OLDEST = "select min(stamp) from {g}.positions where seq > 0"


class Lag:
    """Samples by region: (seconds since 1970, seconds that the oldest position lies behind them).

    Primaries write a barrier to each partition every second: about one second is no lag at all. A
    region whose database does not answer has no sample then.
    """

    def __init__(self) -> None:
        self.samples: dict[str, list[tuple[float, float]]] = {}

    def measure(self, endpoints: Endpoints) -> None:
        """Add a sample of each region that answers."""
        for region, place in endpoints.regions.items():
            points = self.samples.setdefault(region, [])
            try:
                with closing(Generation.current(place.postgres_conninfo())) as tables:
                    ((stamp,),) = tables.query(_OLDEST)
            except (NotFound, Unavailable):
                continue
            if stamp is not None:
                now = time.time()
                points.append((round(now, 1), round(max(0.0, now - millis_of(stamp) / 1000), 2)))
