"""The detector of one heartbeat partition.

`observe(record)` takes the partition's records in order and gives verdicts; nothing else comes in.
Time is the barriers' own: a heartbeat lies between the barrier before and the one after it,
whatever its node's clock says. Where their writer's clock was set back, or stands, each is taken as
BARRIER_MS after the one before. So two detectors of one partition that begin at the same record
give the same verdicts, with the same ids. Invariants: a node is lost only by phi, or when its probe
was refused and it is silent or its connection had ended; no node is lost by phi while most of the
partition are silent, nor in the grace after a start or a pause. The coordinator asks the same of
the region (`mass_silence`): a partition with one or two nodes does not show its own blindness.
Pure, but for its own memory (one entry a node).
"""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID, uuid5

from everlode.detection.phi import phi
from everlode.detection.track import Said, Track
from everlode.detection.tuning import DEFAULT, Tuning
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
BARRIER_MS = 1_000
"""Distance of barriers."""


def mass_silence(silent: int, known: int, tuning: Tuning = DEFAULT) -> bool:
    """Whether so many of those known are silent at once that the observer is blind until proved."""
    return silent >= tuning.blind_least and silent > tuning.blind_share * known


class Verdict(NamedTuple):
    """What was found out about a node."""

    event_id: str
    node_id: str
    data: Event


class Detector:
    """Folds one partition of one origin's heartbeats; all of a network with the same settings."""

    def __init__(self, topic: str, partition: int, tuning: Tuning = DEFAULT) -> None:
        self._tuning = tuning
        self.topic = topic
        self.partition = partition
        self.nodes: dict[str, Track] = {}
        self._offset = -1
        self._quiet_until = -1
        self._barrier_ms = -1
        self._stamped_ms = 0
        """What the last barrier was stamped with; `_barrier_ms` goes on when that goes back."""
        self._blind = False

    def observe(self, offset: int, fact: Fact) -> list[Verdict]:
        """Verdicts that follow from the record at `offset`; a record seen before gives none."""
        if offset <= self._offset:
            return []
        self._offset = offset
        data = fact.data
        if isinstance(data, NodeBeat):
            return self._heartbeat(offset, fact, data)
        if isinstance(data, ProbeAnswered):
            return self._probe(offset, fact, data)
        if isinstance(data, Barrier):
            return self._barrier(offset, millis_of(fact.envelope.stamp))
        return []

    def time_of(self, fact: Fact) -> int:
        """When a record came that was observed last, in ms of the barriers."""
        return self._time(fact.envelope.stamp)

    def _evidence(self, offset: int, note: str) -> Evidence:
        return Evidence(topic=self.topic, partition=self.partition, offset=offset, note=note)

    def _last(self, offset: int) -> Evidence:
        return self._evidence(offset, "last beat")

    def _verdict(
        self, offset: int, finding: str, node: str, kind: type[Event], /, **data: Any
    ) -> Verdict:
        event_id = str(uuid5(NAMESPACE, f"{self.topic}/{self.partition}/{offset}/{finding}/{node}"))
        return Verdict(event_id, node, kind.model_validate(data))

    def _time(self, stamp: int) -> int:
        """When a record came, by the barriers: its own time as far as their order allows it."""
        at = millis_of(stamp)
        if self._barrier_ms < 0:
            return at
        at += self._barrier_ms - self._stamped_ms
        return min(max(at, self._barrier_ms), self._barrier_ms + BARRIER_MS)

    # -- heartbeats --------------------------------------------------------------------------

    def _heartbeat(self, offset: int, fact: Fact, heartbeat: NodeBeat) -> list[Verdict]:
        node, at = fact.envelope.aggregate_id, self._time(fact.envelope.stamp)
        track = self.nodes.get(node)
        if track is None:
            self.nodes[node] = Track.of(heartbeat, at, offset)
            return []
        found: list[Verdict] = []
        silence = max(0, at - track.at_ms)
        if track.status in ("suspected", "lost"):
            found = self._recovered(offset, node, track, silence)
        elif silence > 0:
            track.after(silence)
        worked = heartbeat.work_done != track.work_done or heartbeat.queue_size == 0
        track.idle = 0 if worked else track.idle + 1
        if track.idle == self._tuning.idle_beats:
            found.append(
                self._verdict(
                    offset, "idle", node, NodeDegraded, component=heartbeat.component, rule="idle",
                    actionable=False,
                    evidence=(
                        self._last(offset), self._evidence(track.offset, "an earlier beat"),
                    ),
                )
            )  # fmt: skip
        track.arrived(heartbeat, at, offset)
        if track.degraded is not None:
            found += self._says_degraded(offset, node, track, track.degraded)
        return found

    def _says_degraded(self, offset: int, node: str, track: Track, since: Said) -> list[Verdict]:
        """It lives, and has said for long that it cannot do its work: another one should."""
        if track.degraded_given or track.at_ms < self._quiet_until:
            return []
        if track.at_ms - since.at_ms < self._tuning.degraded_ms:
            return []
        track.degraded_given = True
        return [
            self._verdict(
                offset, "degraded", node, NodeDegraded, component=track.component,
                rule="says-so", actionable=True,
                evidence=(
                    self._evidence(since.offset, "it said so first"), self._last(track.offset),
                ),
            )
        ]  # fmt: skip

    def _recovered(self, offset: int, node: str, track: Track, silence: int) -> list[Verdict]:
        evidence = (self._evidence(offset, "it beats again"),)
        component = track.component
        found = [
            self._verdict(
                offset, "recovered", node, NodeRecovered, component=component,
                silence_ms=silence, evidence=evidence,
            )
        ]  # fmt: skip
        if track.returned(self._barrier_ms, silence, self._tuning):
            found.append(
                self._verdict(
                    offset, "flapping", node, NodeFlapping, component=component,
                    changes=self._tuning.flaps, window_ms=self._tuning.flap_window_ms,
                    evidence=evidence,
                )
            )  # fmt: skip
        return found

    # -- probes ------------------------------------------------------------------------------

    def _probe(self, offset: int, fact: Fact, probe: ProbeAnswered) -> list[Verdict]:
        """A refusal convicts at once, blind or not: it does not come through the log's silence."""
        node = fact.envelope.aggregate_id
        track = self.nodes.get(node)
        if track is None or track.status == "lost":
            return []
        gone = probe.connection_ended and probe.answer == "refused"
        if track.status != "suspected" and not gone:
            return []  # it beats: a refusal alone says only that its endpoint is closed
        if probe.endpoint != track.endpoint:
            return []  # an answer about another incarnation of the node
        track.answer, track.answered_ms = probe.answer, self._time(fact.envelope.stamp)
        track.answered = self._evidence(offset, f"the probe: {probe.answer}")
        return self._judge(offset, node, track)

    # -- barriers ----------------------------------------------------------------------------

    def _barrier(self, offset: int, stamped: int) -> list[Verdict]:
        passed = stamped - self._stamped_ms
        grace_ms = self._tuning.grace_ms
        if -grace_ms <= passed < 0:  # another writer's, a little out of turn
            passed, stamped = 0, self._stamped_ms
        elif passed <= 0:
            passed = BARRIER_MS
        now = stamped if self._barrier_ms < 0 else self._barrier_ms + passed
        if self._barrier_ms < 0 or passed > grace_ms:
            self._quiet_until = now + grace_ms  # the start, or barriers were silent themselves
        self._barrier_ms, self._stamped_ms = now, stamped
        silent, alive = self._looked_through(now)
        if now < self._quiet_until:
            return []
        fresh = [n for n in silent if self.nodes[n].status != "lost"]
        found: list[Verdict] = []
        blind = mass_silence(len(fresh), alive, self._tuning)
        if blind and not self._blind:
            found.append(
                self._verdict(
                    offset, "blind", self.topic, DetectorBlind, silent=len(fresh), known=alive,
                    evidence=(self._evidence(offset, "barrier"),),
                )
            )  # fmt: skip
        self._blind = blind
        for node in sorted(silent):
            track = self.nodes[node]
            convicted = self._judge(offset, node, track)
            found.extend(convicted or self._suspect(offset, node, track))
        return found

    def _silence(self, track: Track) -> int:
        now = self._barrier_ms
        if track.answered_ms > now:
            now = track.answered_ms
        return max(0, now - track.at_ms)

    def _looked_through(self, now: int) -> tuple[list[str], int]:
        """At a barrier, in one pass: who has missed a heartbeat, and how many are not lost."""
        silent: list[str] = []
        alive = 0
        missed = self._tuning.missed
        for node, track in self.nodes.items():
            if track.at_ms > now:
                track.at_ms = now  # what came before the barrier is not later than it
            if track.flaps:
                track.forget_flaps(now, self._tuning)
            alive += track.status != "lost"
            if self._silence(track) > missed * track.every:
                silent.append(node)
        return silent, alive

    def _suspect(self, offset: int, node: str, track: Track) -> list[Verdict]:
        """The first missed heartbeat, and now and then while the silence lasts: ask for a probe."""
        if track.status == "lost" or self._barrier_ms - track.asked_ms < self._tuning.ask_again_ms:
            return []
        rule = "still-silent" if track.status == "suspected" else "missed-beat"
        track.status, track.asked_ms = "suspected", self._barrier_ms
        return [
            self._verdict(
                offset, "missed", node, NodeSuspected, component=track.component,
                rule=rule, silence_ms=self._silence(track), phi=self._phi(track),
                endpoint=track.endpoint, actionable=False,
                evidence=(self._last(track.offset), self._evidence(offset, "barrier")),
            )
        ]  # fmt: skip

    # -- conviction --------------------------------------------------------------------------

    def _phi(self, track: Track) -> float:
        tuning = self._tuning
        weight = {"alive": tuning.alive_ms, "no-answer": -tuning.unanswered_ms}
        silence = max(0, self._silence(track) - weight.get(track.answer, 0))
        known = tuple(track.intervals)
        return phi(silence, known, track.every, tuning.pause_ms, tuning.floor_ms)

    def _judge(self, offset: int, node: str, track: Track) -> list[Verdict]:
        """A node is lost when its probe was refused, or, once it is suspected, by phi.

        One that drains closes its endpoint on its way out: only phi convicts it. A verdict that
        was withheld because the node flapped is given when it no longer does.
        """
        if track.status == "lost":
            if not track.withheld or track.flapping:
                return []
            return [self._lost(offset, node, track, "phi", self._phi(track))]
        if track.answer == "refused" and track.says != "draining":
            rule = "refused-and-silent" if track.status == "suspected" else "refused-and-ended"
            return [self._lost(offset, node, track, rule, 0.0)]
        if track.status != "suspected":
            return []
        level = self._phi(track)
        if (
            level >= self._tuning.convicted
            and not self._blind
            and self._barrier_ms >= self._quiet_until
        ):
            return [self._lost(offset, node, track, "phi", level)]
        return []

    def _lost(self, offset: int, node: str, track: Track, rule: str, level: float) -> Verdict:
        """A fenced node leads and manages nothing: its loss asks for no action."""
        track.status = "lost"
        track.withheld = track.flapping and rule == "phi"
        evidence = [self._last(track.offset), self._evidence(offset, "barrier or probe")]
        if track.answered is not None:
            evidence.append(track.answered)
        return self._verdict(
            offset, "lost", node, NodeLost, component=track.component, rule=rule,
            silence_ms=self._silence(track), phi=level,
            actionable=not track.withheld and track.says != "fenced",
            evidence=tuple(evidence),
        )  # fmt: skip
