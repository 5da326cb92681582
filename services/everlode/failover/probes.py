"""The probes of suspected nodes: asked in threads of their own, the answers published as signals.

An answer goes to the node's heartbeat partition, where the detector takes it as a second witness
beside silence. Shell.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from everlode.events.heartbeats import ProbeAnswered
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
        self._under_way: dict[str, tuple[str, Future[tuple[str, int]]]] = {}
        """Node → (endpoint asked, its answer)."""
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="probe")

    def ask(self, node: str, endpoint: str) -> None:
        """Ask whether a node lives, unless it is being asked."""
        if node not in self._under_way:
            self._under_way[node] = (endpoint, self._pool.submit(probe, endpoint))

    def publish(self) -> None:
        """Publish the answers that have come."""
        for node, (endpoint, future) in list(self._under_way.items()):
            if not future.done():
                continue
            del self._under_way[node]
            answer, took_ms = future.result()
            data = ProbeAnswered.model_validate(
                {"endpoint": endpoint, "answer": answer, "elapsed_ms": took_ms}
            )
            self._agent.signal(data, key=node, partition=partition_of(node, self._partitions))
            self._report(Probed(node, answer, took_ms))

    def close(self) -> None:
        """Leave; an answer that is awaited is lost."""
        self._pool.shutdown(wait=False, cancel_futures=True)
