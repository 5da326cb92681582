"""A region's copy of what another one writes for its scope: how far it has come, looked at beside.

    look(us) ──► the last look, or None; a new one begins ─► [thread] ends, beginnings

A failback waits for the copy, and a coordinator's turn must not: barriers would be late. A copy
only grows, so an older look claims less than there is. Shell: a thread while somebody looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from everlode.adapters.kafka import Reader
from everlode.avro.codec import Codec
from everlode.control.fences import place
from everlode.events.stamp import millis_of
from everlode.failover.eligible import Copy
from everlode.log.ends import ends_of
from everlode.settings.endpoints import Endpoints
from everlode.topics.names import fact_topic

AGAIN_S = 0.2
Look = Callable[[str, str], Copy | None]
"""Owner region, component (of a topic) → this region's copy of its facts, as it was looked at
last."""


def nobody_looks(_owner: str, _component: str) -> Copy | None:
    """Nothing is known of any copy."""
    return None


class Copies:
    """Of one coordinator. Not thread-safe."""

    def __init__(self, endpoints: Endpoints, region: str) -> None:
        self._endpoints, self._region = endpoints, region
        self._hands = ThreadPoolExecutor(1, thread_name_prefix="copies")
        self._work: tuple[tuple[str, str], Future[Copy]] | None = None
        self._known: tuple[tuple[str, str], Copy | None] = (("", ""), None)
        self._not_before = 0.0

    def look(self, owner: str, component: str) -> Copy | None:
        """See Look; never waits. Raises: Unavailable: this region's own Kafka did not answer."""
        what = owner, component
        if self._work is not None and self._work[1].done():
            (of, found), self._work = self._work, None
            self._known = of, found.result()
        if self._work is None and time.monotonic() >= self._not_before:
            self._not_before = time.monotonic() + AGAIN_S
            self._work = what, self._hands.submit(self._copy, owner, component)
        return self._known[1] if self._known[0] == what else None

    def _copy(self, owner: str, component: str) -> Copy:
        own = self._endpoints.parts(self._region)
        topic = fact_topic(self._endpoints.parts(owner).origin, component)
        places = [(topic, p) for p in range(own.partitions)]
        mine = [(fact_topic(own.origin, component), p) for p in range(own.partitions)]
        found = ends_of(own.bootstrap, Codec(), places)
        with closing(Reader(own.bootstrap, "coordinator-copies", wait_ms=50)) as reader:
            cut = {at: begin for at, begin in reader.beginnings([*places, *mine]).items() if begin}
        return Copy(
            {place(*at): end.seq for at, end in found.items()},
            min(millis_of(end.stamp) for end in found.values()),
            min((at[0] for at in cut), default=""),
        )

    def close(self) -> None:
        """Leave."""
        self._hands.shutdown(wait=False, cancel_futures=True)
