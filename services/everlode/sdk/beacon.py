"""MinerBeacon: heartbeats of miners, each on its own, sent in turn over their interval. Shell."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from everlode.adapters.clock import Clock, WallClock
from everlode.events.heartbeats import MinerBeat
from everlode.events.identity import at_home
from everlode.log.signals import SignalWriter
from everlode.settings.endpoints import Endpoints
from everlode.topics.partition import partition_of

INTERVAL_MS = 15_000
PARTS = 30
LOG = logging.getLogger(__name__)


class MinerBeacon:
    """Beats for one or many miners of a process, by their names or ids.

    `running(miner)` gives its tasks under way, `finished(miner)` how many it has finished. Of a
    miner for which one of them fails there is no beat, and a line in the log; the others beat on.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        region: str,
        miners: Sequence[str],
        *,
        running: Callable[[str], Sequence[str]],
        finished: Callable[[str], int],
        clock: Clock | None = None,
        interval_ms: int = INTERVAL_MS,
    ) -> None:
        """Raises: ConfigError: the region is not in the endpoints."""
        parts = endpoints.parts(region)
        self._partitions = parts.partitions
        self._miners = [(at_home(region, m), m) for m in miners]
        """Id of each, and as its user calls it."""
        self._running = running
        self._finished = finished
        self._signals = SignalWriter(
            parts.bootstrap, parts.origin, clock or WallClock(), linger_ms=100
        )
        self._interval_ms = interval_ms
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beacon", daemon=True)
        self.sent = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(3)
        self._signals.close(2)

    def __enter__(self) -> MinerBeacon:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        """A round takes the interval, in so many parts; each miner has its place in it."""
        due, part, count = time.monotonic(), 0, len(self._miners)
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += self._interval_ms / 1000 / PARTS
            first, last = (-(-count * n // PARTS) for n in (part, part + 1))
            part = (part + 1) % PARTS
            for miner, name in self._miners[first:last]:
                try:
                    self._beat(miner, name)
                except Exception:
                    LOG.exception("miner %s misses a beat", name)

    def _beat(self, miner: str, name: str) -> None:
        running = tuple(sorted(self._running(name)))[:64]
        beat = MinerBeat(
            running=running, work_done=self._finished(name), interval_ms=self._interval_ms
        )
        self._signals.signal(
            beat, topic="heartbeats", key=miner, partition=partition_of(miner, self._partitions)
        )
        self.sent += 1
