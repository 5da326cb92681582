"""The probes of nodes: asked in threads of their own, the answers published as signals.

A node is asked when it is suspected, and when the connection to it has ended (see `watch`). The
answer goes to its heartbeat partition, where the detector takes it as a second witness beside
silence; where a connection had ended before, a refusal needs no silence. Shell.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from everlode.events.heartbeats import ProbeAnswered
from everlode.failover.watch import Watch
from everlode.membership.agent import NodeAgent
from everlode.membership.probe import probe
from everlode.telemetry.entries import Probed
from everlode.telemetry.sink import Sink, silent
from everlode.topics.partition import partition_of


class Probes:
    """Of one coordinator: at most one under way a node."""

    def __init__(self, agent: NodeAgent, partitions: int, report: Sink = silent) -> None:
        self._agent = agent
        self._partitions = partitions
        self._report = report
        self._guard = threading.Lock()
        self._under_way: set[str] | None = set()
        """Nodes that are being asked; None: closed."""
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="probe")
        self._watch = Watch(partial(self.ask, ended=True))

    def watch(self, endpoints: Mapping[str, str]) -> None:
        """Ask these nodes (node → endpoint) whenever the connection to one ends; no others."""
        self._watch.follow(endpoints)

    def ask(self, node: str, endpoint: str, *, ended: bool = False) -> None:
        """Ask whether a node lives, unless it is being asked; `ended`: the connection that was
        held to it has. Any thread.
        """
        with self._guard:
            if self._under_way is None or node in self._under_way:
                return
            self._under_way.add(node)
            self._pool.submit(self._ask, node, endpoint, ended)

    def _ask(self, node: str, endpoint: str, ended: bool) -> None:
        answer, took_ms = probe(endpoint)
        with self._guard:
            if self._under_way is None:
                return
            self._under_way.discard(node)
        data = ProbeAnswered.model_validate(
            {
                "endpoint": endpoint, "answer": answer, "elapsed_ms": took_ms,
                "connection_ended": ended,
            }
        )  # fmt: skip
        self._agent.signal(data, key=node, partition=partition_of(node, self._partitions))
        self._report(Probed(node, answer, took_ms))

    def close(self) -> None:
        """Leave; an answer that is awaited is lost."""
        self._watch.close()
        with self._guard:
            self._under_way = None
        self._pool.shutdown(wait=False, cancel_futures=True)
