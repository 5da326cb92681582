"""The last heartbeat of each node of a region, as its coordinator reads them.

Memory: one entry a node. Pure, but for a monotonic clock.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from everlode.events.base import Evidence, Fact
from everlode.events.heartbeats import NodeBeat
from everlode.failover.planner import Beating

FRESH_S = 3.0


def said(beat: NodeBeat) -> Beating:
    """What a coordinator goes by."""
    leads = beat.role == "primary"
    return Beating(beat.queue_size, beat.load_ppm, beat.status, beat.read_stamp, leads)


class LastHeartbeat(NamedTuple):
    """Where a node's last heartbeat stands, and when it was read (monotonic; 0: old news)."""

    beat: NodeBeat
    partition: int
    offset: int
    read_at: float


class Heartbeats:
    """Last heartbeat of each node."""

    def __init__(self) -> None:
        self.last: dict[str, LastHeartbeat] = {}

    def observe(self, fact: Fact, partition: int, offset: int, behind: bool) -> None:
        """Fold one record; `behind`: it is old news, read while catching up."""
        if isinstance(fact.data, NodeBeat):
            at = 0.0 if behind else time.monotonic()
            self.last[fact.envelope.aggregate_id] = LastHeartbeat(fact.data, partition, offset, at)

    def fresh(self) -> dict[str, Beating]:
        """Node → what it said last, of the nodes that beat now."""
        now = time.monotonic()
        return {
            node: said(last.beat)
            for node, last in self.last.items()
            if now - last.read_at < FRESH_S
        }

    def since(self, node: str, evidence: Sequence[Evidence]) -> bool:
        """True when the node has beaten after all that this evidence names: it is overtaken."""
        last = self.last.get(node)
        return last is not None and all(
            last.partition == e.partition and last.offset > e.offset for e in evidence
        )

    def silent_ms(self, node: str) -> float | None:
        """Milliseconds since the node's last heartbeat was read; None: not known."""
        last = self.last.get(node)
        if last is None or not last.read_at:
            return None
        return (time.monotonic() - last.read_at) * 1000

    def read_stamp(self, node: str) -> int:
        """Stamp up to which the node had read or written its log by its last beat; 0: unknown."""
        last = self.last.get(node)
        return (last.beat.read_stamp or 0) if last else 0

    def under_way(self, node: str) -> int:
        """What the node's last heartbeat had under way; 0 without one."""
        last = self.last.get(node)
        return last.beat.current_tasks if last else 0
