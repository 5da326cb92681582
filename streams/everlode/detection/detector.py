"""The detector of one heartbeat partition.

`observe(record)` takes the partition's records in order and gives verdicts; nothing else comes in,
and time is the barriers' own. So whoever folds the partition from the same start gives the same
verdicts, with the same ids. Pure, but for its own memory (one entry a node).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from everlode.detection.phi import CONVICTED, phi
from everlode.events.barriers import Barrier
from everlode.events.base import Event, Evidence, Fact
from everlode.events.health import (
    DetectorBlind,
    NodeDegraded,
    NodeFlapping,
    NodeLost,
    NodeRecovered,
    NodeSuspected,
)
from everlode.events.heartbeats import NodeBeat, ProbeAnswered
from everlode.events.stamp import millis_of

NAMESPACE = UUID("0f6c7b0e-44f1-5d7b-9a55-3f1d5f1c9d02")
MISSED = 1.7
"""A silence of this many intervals is a missed beat."""
GRACE_MS = 4_000
"""No verdicts for this long after the first barrier seen, or after barriers were silent."""
BLIND_SHARE, BLIND_LEAST = 0.55, 3
IDLE_BEATS = 10
"""Beats without any work done while work waits, until a node is degraded."""
FLAPS, FLAP_WINDOW_MS = 4, 60_000
WINDOW = 32


class Verdict(NamedTuple):
    """What was found out about a node."""

    event_id: str
    node_id: str
    data: Event


@dataclass(slots=True)
class Track:
    """What is known of one node."""

    beat: NodeBeat
    at_ms: int
    place: Evidence
    intervals: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    status: str = "healthy"
    idle: int = 0
    refused: Evidence | None = None
    changes: deque[int] = field(default_factory=lambda: deque(maxlen=FLAPS))
    flapping: bool = False


class Detector:
    """Folds one partition of one origin's heartbeats."""

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.nodes: dict[str, Track] = {}
        self._quiet_until = -1
        self._barrier_ms = -1
        self._blind = False

    def observe(self, offset: int, fact: Fact) -> list[Verdict]:
        """Verdicts that follow from the record at `offset`."""
        data = fact.data
        if isinstance(data, NodeBeat):
            return self._beat(offset, fact, data)
        if isinstance(data, ProbeAnswered):
            return self._probe(offset, fact.envelope.aggregate_id, data)
        if isinstance(data, Barrier):
            return self._barrier(offset, millis_of(fact.envelope.stamp))
        return []

    # -- inside ------------------------------------------------------------------------------

    def _evidence(self, offset: int, note: str) -> Evidence:
        return Evidence(topic=self.topic, partition=self.partition, offset=offset, note=note)

    def _verdict(
        self, offset: int, said: str, node: str, kind: type[Event], /, **data: Any
    ) -> Verdict:
        event_id = str(uuid5(NAMESPACE, f"{self.topic}/{self.partition}/{offset}/{said}/{node}"))
        return Verdict(event_id, node, kind.model_validate(data))

    def _beat(self, offset: int, fact: Fact, beat: NodeBeat) -> list[Verdict]:
        node, at = fact.envelope.aggregate_id, millis_of(fact.envelope.stamp)
        place = self._evidence(offset, "last beat")
        track = self.nodes.get(node)
        if track is None:
            self.nodes[node] = Track(beat, at, place)
            return []
        if at <= track.at_ms:
            return []  # late or repeated
        found: list[Verdict] = []
        silence = at - track.at_ms
        if track.status in ("suspected", "lost"):
            found = self._recovered(offset, node, track, silence)
        else:
            track.intervals.append(silence)
        worked = beat.work_done != track.beat.work_done or beat.queue_size == 0
        track.idle = 0 if worked else track.idle + 1
        if track.idle == IDLE_BEATS:
            found.append(
                self._verdict(
                    offset, "idle", node, NodeDegraded, component=beat.component, rule="idle",
                    actionable=False,
                    evidence=(place, self._evidence(track.place.offset, "an earlier beat")),
                )
            )  # fmt: skip
        track.beat, track.at_ms, track.place, track.refused = beat, at, place, None
        track.status = "healthy"
        return found

    def _recovered(self, offset: int, node: str, track: Track, silence: int) -> list[Verdict]:
        track.changes.append(offset)
        track.intervals.clear()
        evidence = (self._evidence(offset, "it beats again"),)
        found = [
            self._verdict(
                offset, "recovered", node, NodeRecovered, component=track.beat.component,
                silence_ms=silence, evidence=evidence,
            )
        ]  # fmt: skip
        if len(track.changes) == FLAPS and not track.flapping:
            track.flapping = True
            found.append(
                self._verdict(
                    offset, "flapping", node, NodeFlapping, component=track.beat.component,
                    changes=FLAPS, window_ms=FLAP_WINDOW_MS, evidence=evidence,
                )
            )  # fmt: skip
        return found

    def _probe(self, offset: int, node: str, probe: ProbeAnswered) -> list[Verdict]:
        track = self.nodes.get(node)
        if track is None or track.status != "suspected":
            return []
        if probe.endpoint != track.beat.endpoint:
            return []  # an answer about another incarnation of the node
        if probe.answer == "refused":
            track.refused = self._evidence(offset, "the probe was refused")
            if not self._held():
                return [self._lost(offset, node, track, "refused-and-silent", 0.0)]
        return []

    def _held(self) -> bool:
        return self._blind or self._barrier_ms < self._quiet_until

    def _barrier(self, offset: int, now: int) -> list[Verdict]:
        if self._barrier_ms < 0 or now - self._barrier_ms > GRACE_MS:
            self._quiet_until = now + GRACE_MS  # the start, or barriers were silent themselves
        self._barrier_ms = max(now, self._barrier_ms)
        silent = [n for n, t in self.nodes.items() if self._silence(t) > MISSED * self._every(t)]
        fresh = [n for n in silent if self.nodes[n].status != "lost"]
        alive = [n for n, t in self.nodes.items() if t.status != "lost"]
        found: list[Verdict] = []
        blind = len(fresh) >= BLIND_LEAST and len(fresh) > BLIND_SHARE * len(alive)
        if blind and not self._blind:
            found.append(
                self._verdict(
                    offset, "blind", self.topic, DetectorBlind, silent=len(fresh),
                    known=len(alive), evidence=(self._evidence(offset, "barrier"),),
                )
            )  # fmt: skip
        self._blind = blind
        if self._held():
            return found
        for node in sorted(fresh):
            found.extend(self._judge(offset, node, self.nodes[node]))
        return found

    def _silence(self, track: Track) -> int:
        return self._barrier_ms - track.at_ms

    @staticmethod
    def _every(track: Track) -> int:
        return max(1, track.beat.interval_ms)

    def _judge(self, offset: int, node: str, track: Track) -> list[Verdict]:
        """A silent node: suspected first; lost when a probe was refused, or by phi."""
        if track.status != "suspected":
            track.status = "suspected"
            return [self._suspected(offset, node, track)]
        if track.refused is not None:
            return [self._lost(offset, node, track, "refused-and-silent", 0.0)]
        level = phi(self._silence(track), tuple(track.intervals), self._every(track))
        if level >= CONVICTED:
            return [self._lost(offset, node, track, "phi", level)]
        return []

    def _suspected(self, offset: int, node: str, track: Track) -> Verdict:
        return self._verdict(
            offset, "missed", node, NodeSuspected, component=track.beat.component,
            rule="missed-beat", silence_ms=self._silence(track), phi=0.0,
            endpoint=track.beat.endpoint, actionable=False,
            evidence=(track.place, self._evidence(offset, "barrier")),
        )  # fmt: skip

    def _lost(self, offset: int, node: str, track: Track, rule: str, level: float) -> Verdict:
        track.status = "lost"
        evidence = [track.place, self._evidence(offset, "barrier or probe")]
        if track.refused is not None:
            evidence.append(track.refused)
        return self._verdict(
            offset, "lost", node, NodeLost, component=track.beat.component, rule=rule,
            silence_ms=max(0, self._silence(track)), phi=level, actionable=not track.flapping,
            evidence=tuple(evidence),
        )  # fmt: skip
